"""Arrays over elements, indexed by the atomic number itself."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# fmt: off
SYMBOLS: tuple[str, ...] = (
    "X",
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne",
    "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn",
    "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr",
    "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn",
    "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd",
    "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb",
    "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg",
    "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th",
    "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm",
    "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds",
    "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
)
# fmt: on
"""Symbols by atomic number; ``"X"``, number 0, is padding."""

NUMBER_OF_COLUMNS = len(SYMBOLS)
"""Width of an array over elements: atomic numbers 0 (padding) to 118."""


def by_atomic_number(values: Any, name: str) -> NDArray[np.float64]:
    """Return per-element values as an array over atomic numbers.

    Args:
        values: a mapping of symbol or Z to number, or an array (119,).
        name: of the argument, for messages.

    Returns:
        (119,) float64, NaN for elements that are not given.

    Raises:
        ValueError: for an unknown element, or an array of another shape.
    """
    if not isinstance(values, Mapping):
        array = np.array(values, dtype=np.float64)
        if array.shape != (NUMBER_OF_COLUMNS,):
            raise ValueError(
                f"`{name}` must be a mapping of element to number or an array of "
                f"shape ({NUMBER_OF_COLUMNS},), indexed by atomic number. Received: "
                f"shape {array.shape}."
            )
        array[0] = np.nan  # padding has no value
        return array
    array = np.full(NUMBER_OF_COLUMNS, np.nan)
    for element, value in values.items():
        array[atomic_number(element, f"Keys of `{name}`")] = value
    return array


def atomic_number(element: Any, name: str) -> int:
    """Return the atomic number of a symbol or an atomic number.

    Args:
        element: ``"Cu"`` or 29.
        name: of what was given, for messages.

    Raises:
        ValueError: for anything that is no element.
    """
    number = SYMBOLS.index(element) if element in SYMBOLS[1:] else element
    if not isinstance(number, int | np.integer) or not 1 <= number <= 118:
        raise ValueError(
            f"{name} must be symbols or atomic numbers from 1 to 118. "
            f"Received: {element!r}."
        )
    return int(number)


def by_symbol(array: NDArray) -> dict[str, float]:
    """Return the values that are not NaN as a mapping of symbol to number."""
    return {SYMBOLS[z]: float(array[z]) for z in np.flatnonzero(~np.isnan(array))}


def join_symbols(atomic_numbers: Iterable[int]) -> str:
    """Return ``"H, C, O"`` for atomic numbers in any order, with repetitions."""
    return ", ".join(SYMBOLS[z] for z in sorted({int(z) for z in atomic_numbers}))
