"""Who belongs together: structures and atoms by size, element and ``config_type``."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tfpes.elements import SYMBOLS


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """G groups of S structures with A atoms.

    ``groups.structures @ values`` adds up values (S,) of structures in each group.

    Attributes:
        names: of the groups.
        structures: (G, S), 1 for members, sparse.
        atoms: (G, A), likewise.
        num_atoms: (G,).
    """

    names: tuple[str, ...]
    structures: csr_array
    atoms: csr_array
    num_atoms: NDArray[np.float64]


def groups(
    composition: NDArray,
    atomic_numbers: NDArray,
    structure_index: NDArray,
    config_type: NDArray[np.str_] | None = None,
) -> dict[str, Groups]:
    """Return ``overall``, ``by_size``, ``by_element`` and, if any, ``by_config_type``.

    A structure belongs to each of its elements, an atom to its own.

    Args:
        composition: (S, 119).
        atomic_numbers: (A,).
        structure_index: (A,).
        config_type: (S,), or None.
    """
    size = composition.sum(axis=1)

    def disjoint(names: Iterable[str], group: NDArray) -> Groups:
        names = tuple(names)
        structures = _members(group, len(names))
        atoms = _members(group[structure_index], len(names))
        return Groups(names, structures, atoms, structures @ size)

    bins = size_bins(size)
    elements = np.flatnonzero(composition.any(axis=0))
    held = composition[:, elements].T
    found = {
        "overall": disjoint(["all"], np.zeros(len(size), int)),
        "by_size": disjoint(
            (str(low) if low == high else f"{low}-{high}" for low, high in bins),
            np.searchsorted([high for _, high in bins], size),
        ),
        "by_element": Groups(
            tuple(SYMBOLS[z] for z in elements),
            csr_array(held > 0, dtype=np.float64),
            _members(np.searchsorted(elements, atomic_numbers), len(elements)),
            held.sum(axis=1),
        ),
    }
    if config_type is not None and (config_type != "").any():
        kinds, group = np.unique(config_type, return_inverse=True)
        names = (str(kind) or "(none)" for kind in kinds)
        found["by_config_type"] = disjoint(names, group.reshape(-1))
    return found


def size_bins(sizes: NDArray) -> list[tuple[int, int]]:
    """Return the occupied bins of sizes: 1, 2-4, 5-16, 17-64, 65-256, ..."""
    bins, low, high = [], 1, 1
    while low <= sizes.max():
        if ((sizes >= low) & (sizes <= high)).any():
            bins.append((low, high))
        low, high = high + 1, 4 * high
    return bins


def _members(group: NDArray, number: int) -> csr_array:
    rows = np.arange(len(group))
    return csr_array((np.ones(len(group)), (group, rows)), (number, len(group)))
