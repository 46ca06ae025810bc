"""Sufficient statistics of a property of atoms: forces."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.checks import (
    FORMAT_VERSION,
    check_state,
    check_weights,
    damaged,
    first,
)

_SUMS = ("squares", "largest", "atoms", "missing")
_COUNTS = ("components", "structures")

# Float32 numbers, by their exponent and the first two digits after it: four bins in an
# octave, from 2^-40 (and all below) to 2^14 eV/Å (and all above).
_FIRST, _BINS = (127 - 40) * 4, 54 * 4
_MAGNITUDES = (np.arange(_FIRST, _FIRST + _BINS, dtype=np.uint32) << 21).view("f4")
_SMALL = 34 * 4
"""All from 2^-6 eV/Å on share this bin: most do, and none of them is rounding."""


class AtomicTable:
    r"""For each element the sum of squared force components, and how large they are.

    A component that is NaN is not there; atoms of number 0 are padding; weight 0
    leaves an atom out. Weights are frequencies. Components, and structures, are counted
    by magnitude, because only the whole table tells which of them are nothing but
    rounding.

    Example:
        >>> table = AtomicTable()
        >>> table.update([8, 1, 0], [[1.0, 2, 2], [0, 3, float("nan")], [9, 9, 9]])
        >>> table.squares[[1, 8]], table.number("components")[[1, 8]]
        (array([9., 9.]), array([2., 3.]))
    """

    def __init__(self) -> None:
        """Start empty."""
        self.components = np.zeros((NUMBER_OF_COLUMNS, _BINS))
        """Weighted number of force components, by magnitude, shape (119, bins)."""
        self.structures = np.zeros((NUMBER_OF_COLUMNS, _BINS))
        """Weighted number of structures that hold the element, by the root mean square
        of its components there, shape (119, bins)."""
        self.squares = np.zeros(NUMBER_OF_COLUMNS)
        """Weighted sum of squared components, (eV/Å)², shape (119,)."""
        self.largest = np.zeros(NUMBER_OF_COLUMNS)
        """Greatest absolute component, eV/Å, shape (119,)."""
        self.atoms = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms with at least one component, shape (119,)."""
        self.missing = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms without any, shape (119,)."""

    def number(self, of: str, least: float = 0.0) -> NDArray[np.float64]:
        """Return weighted numbers ``of`` "components" or "structures", (119,).

        Args:
            of: what to count.
            least: magnitude that counts, eV/Å; bins below it are left out.
        """
        counts = getattr(self, of)
        # The first bin begins at 0.
        first = np.searchsorted(_MAGNITUDES[1:], least, "right")
        return counts[:, first:].sum(axis=1)

    def update(
        self,
        atomic_numbers: ArrayLike,
        forces: ArrayLike,
        weights: ArrayLike | None = None,
        structure_index: ArrayLike | None = None,
    ) -> None:
        """Add the atoms of a batch.

        Args:
            atomic_numbers: 0 for padding, shape (A,).
            forces: NaN where there is no label, eV/Å, shape (A, 3).
            weights: of each atom, shape (A,), 1 if not given.
            structure_index: the structure of each atom, shape (A,), from 0; one for all
                if not given.

        Raises:
            ValueError: for a wrong shape, an atomic number outside 0..118, infinite
                forces, negative or NaN weights. The table is then unchanged.
        """
        number = np.asarray(atomic_numbers)
        force = np.asarray(forces)
        index = np.zeros(number.shape, int)
        if structure_index is not None:
            index = np.asarray(structure_index)
        if not (*number.shape, 3) == (*index.shape, 3) == force.shape:
            raise ValueError(
                "`atomic_numbers` and `structure_index` must have shape (atoms,) and "
                f"`forces` (atoms, 3). Received: shapes {number.shape}, {index.shape} "
                f"and {force.shape}."
            )
        weight = None if weights is None else check_weights(weights, number.size)
        number = _checked_numbers(number)
        # By components: whole columns are converted and squared in a third of the time.
        component = np.array(force.T, np.float64, order="C")
        squared = component * component
        square = squared.sum(axis=0)
        _check_finite(component, square)
        used = number > 0 if weight is None else (number > 0) & (weight > 0)
        if not used.all():
            number, component, square = number[used], component[:, used], square[used]
            weight, index = None if weight is None else weight[used], index[used]
            squared = squared[:, used]
        near = np.flatnonzero(squared < np.square(_MAGNITUDES[_SMALL], dtype=float))
        atom = near % max(number.size, 1)
        labels = None
        if np.isnan(square).any():
            labels = np.count_nonzero(~np.isnan(component), axis=0).astype(float)
            component = np.nan_to_num(component, nan=0.0)
            square = (component * component).sum(axis=0)
        atoms = _count(number)
        labelled = atoms if labels is None else _count(number[labels > 0])
        self.atoms += labelled
        self.missing += atoms - labelled
        # The atoms of one element in one structure are one observation.
        elements = np.flatnonzero(atoms)
        place = np.cumsum(atoms > 0) - 1  # of each element among these
        group = index * elements.size + place[number]
        of_group = 3.0 * np.bincount(group) if labels is None else _count(group, labels)
        held = np.flatnonzero(of_group)
        of_group, squares = of_group[held], _count(group, square)[held]
        element = elements[held % max(elements.size, 1)]
        if weight is None:
            weighted, of_small = of_group, None
            self.squares += _count(element, squares)
        else:
            weighted = _count(group, weight * (3.0 if labels is None else labels))[held]
            of_small = weight[atom]
            self.squares += _count(number, weight * square)
        small = _by_magnitude(number[atom], component.ravel()[near], of_small)
        self.components += small
        self.components[:, _SMALL] += _count(element, weighted) - small.sum(axis=1)
        mean_weight = weighted / of_group
        size = np.sqrt(squares / of_group)
        self.structures += _by_magnitude(element, size, mean_weight)
        # Few atoms can beat the record: a component is no longer than its vector.
        bound = self.largest**2 * (1 - 1e-15)
        record = np.flatnonzero(square > bound[number])
        greatest = np.abs(component[:, record]).max(axis=0, initial=0.0)
        np.maximum.at(self.largest, number[record], greatest)

    def merge(self, other: "AtomicTable") -> None:
        """Add everything that `other` has seen.

        Raises:
            TypeError: if `other` is no `AtomicTable`.
        """
        if not isinstance(other, AtomicTable):
            raise TypeError(
                "`merge` takes an `AtomicTable`. Received: "
                f"{type(other).__name__}. Build one with `update` or `from_state`."
            )
        self.components += other.components
        self.structures += other.structures
        self.squares += other.squares
        self.atoms += other.atoms
        self.missing += other.missing
        self.largest = np.maximum(self.largest, other.largest)

    def state(self) -> dict[str, NDArray]:
        """Return the table as plain arrays of numbers, for `from_state`."""
        state = {name: getattr(self, name).copy() for name in _SUMS}
        for name in _COUNTS:  # nearly all of them are 0
            counts = getattr(self, name).ravel()
            state[f"{name}_bin"] = np.flatnonzero(counts)
            state[name] = counts[state[f"{name}_bin"]]
        return {"version": np.array(FORMAT_VERSION), **state}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> "AtomicTable":
        """Return the table that `state` was taken from.

        Raises:
            ValueError: if the state is damaged or of another version.
        """
        bins = [f"{name}_bin" for name in _COUNTS]
        check_state(state, cls.__name__, (*_SUMS, *_COUNTS, *bins))
        table = cls()
        for name in (*_SUMS, *_COUNTS):
            old = getattr(table, name)
            array = np.array(state[name], old.dtype)
            if not np.isfinite(array).all() or np.any(array < 0):
                raise damaged(cls.__name__, f"whose '{name}' holds impossible values")
            if name in _COUNTS:
                try:
                    old.ravel()[np.array(state[f"{name}_bin"], int)] = array
                except (IndexError, ValueError) as error:
                    raise damaged(
                        cls.__name__, f"whose '{name}' do not fit their bins"
                    ) from error
                continue
            if array.shape != old.shape:
                raise damaged(cls.__name__, f"whose '{name}' has shape {array.shape}")
            setattr(table, name, array)
        return table


def _checked_numbers(number: NDArray) -> NDArray[np.intp]:
    """Return atomic numbers as indices, or raise."""
    with np.errstate(invalid="ignore"):  # NaN as an integer
        whole = number.astype(np.intp)
    # Negative numbers are huge ones then.
    bad = np.greater_equal(whole.view(np.uintp), NUMBER_OF_COLUMNS)
    if number.dtype.kind not in "iu":
        bad |= whole != number
    if (where := first(bad)) is not None:
        raise ValueError(
            "`atomic_numbers` must be whole numbers from 0 (padding) to 118. Received: "
            f"{number[where]} for atom {where}."
        )
    return whole


def _check_finite(component: NDArray[np.float64], square: NDArray[np.float64]) -> None:
    # The squares have a third of the numbers: look at the forces only if need be.
    if np.isfinite(square).all():
        return
    if (where := first(np.any(np.isinf(component), axis=0))) is not None:
        raise ValueError(
            "`forces` must be finite, or NaN where there is no label. Received: "
            f"{component[:, where]} for atom {where}. Remove the structure, or set "
            "them to NaN."
        )


def _count(number: NDArray[np.intp], values: NDArray | None = None) -> NDArray:
    """Return how often each number occurs, or the sum of values, at least (119,)."""
    return np.bincount(number, values, NUMBER_OF_COLUMNS)


def _by_magnitude(
    number: NDArray[np.intp], values: NDArray, weight: NDArray | None
) -> NDArray:
    """Return how many values each element has in each bin, (119, bins).

    Args:
        number: elements of the values, shape (n,), as all.
        values: not NaN.
        weight: None for 1.
    """
    digits = np.abs(values).astype(np.float32).view(np.int32) >> 21
    place = np.clip(digits - _FIRST, 0, _BINS - 1) + _BINS * number
    counts = np.bincount(place, weight, NUMBER_OF_COLUMNS * _BINS)
    return counts.reshape(NUMBER_OF_COLUMNS, _BINS)
