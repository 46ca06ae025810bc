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

_ARRAYS = ("components", "squares", "largest", "atoms", "missing")


class AtomicTable:
    r"""For each element the number of force components and their sum of squares.

    A component that is NaN is not there; atoms of number 0 are padding; weight 0
    leaves an atom out. Weights are frequencies.

    Example:
        >>> table = AtomicTable()
        >>> table.update([8, 1, 0], [[1.0, 2, 2], [0, 3, float("nan")], [9, 9, 9]])
        >>> table.squares[[1, 8]], table.components[[1, 8]]
        (array([9., 9.]), array([2., 3.]))
    """

    def __init__(self) -> None:
        """Start empty."""
        self.components = np.zeros(NUMBER_OF_COLUMNS)
        """Weighted number of force components, shape (119,)."""
        self.squares = np.zeros(NUMBER_OF_COLUMNS)
        """Weighted sum of squared components, (eV/Å)², shape (119,)."""
        self.largest = np.zeros(NUMBER_OF_COLUMNS)
        """Greatest absolute component, eV/Å, shape (119,)."""
        self.atoms = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms with at least one component, shape (119,)."""
        self.missing = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms without any, shape (119,)."""

    def update(
        self,
        atomic_numbers: ArrayLike,
        forces: ArrayLike,
        weights: ArrayLike | None = None,
    ) -> None:
        """Add the atoms of a batch.

        Args:
            atomic_numbers: 0 for padding, shape (A,).
            forces: NaN where there is no label, eV/Å, shape (A, 3).
            weights: of each atom, shape (A,), 1 if not given.

        Raises:
            ValueError: for a wrong shape, an atomic number outside 0..118, infinite
                forces, negative or NaN weights. The table is then unchanged.
        """
        number = np.asarray(atomic_numbers)
        force = np.asarray(forces)
        if number.ndim != 1 or force.shape != (number.size, 3):
            raise ValueError(
                "`atomic_numbers` must have shape (atoms,) and `forces` (atoms, 3). "
                f"Received: shapes {number.shape} and {force.shape}."
            )
        weight = None if weights is None else check_weights(weights, number.size)
        number = _checked_numbers(number)
        # By components: whole columns are converted and squared in a third of the time.
        component = np.array(force.T, np.float64, order="C")
        square = (component * component).sum(axis=0)
        _check_finite(component, square)
        used = number > 0 if weight is None else (number > 0) & (weight > 0)
        if not used.all():
            number, component, square = number[used], component[:, used], square[used]
            weight = None if weight is None else weight[used]
        atoms = labelled = _total(number)
        # Without gaps and weights there is nothing to multiply.
        labels = weight if weight is None else 3 * weight
        if np.isnan(square).any():
            labels = np.count_nonzero(~np.isnan(component), axis=0)
            component = np.nan_to_num(component, nan=0.0)
            square = (component * component).sum(axis=0)
            labelled = _total(number, labels > 0)
            labels = labels if weight is None else labels * weight
        self.atoms += labelled.astype(np.int64)
        self.missing += (atoms - labelled).astype(np.int64)
        self.components += 3 * atoms if labels is None else _total(number, labels)
        self.squares += _total(number, square if weight is None else weight * square)
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
        self.squares += other.squares
        self.atoms += other.atoms
        self.missing += other.missing
        self.largest = np.maximum(self.largest, other.largest)

    def state(self) -> dict[str, NDArray]:
        """Return the table as plain arrays of numbers, for `from_state`."""
        state = {name: getattr(self, name).copy() for name in _ARRAYS}
        return {"version": np.array(FORMAT_VERSION), **state}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> "AtomicTable":
        """Return the table that `state` was taken from.

        Raises:
            ValueError: if the state is damaged or of another version.
        """
        check_state(state, cls.__name__, _ARRAYS)
        table = cls()
        for name in _ARRAYS:
            old = getattr(table, name)
            array = np.array(state[name], old.dtype)
            if array.shape != old.shape:
                raise damaged(cls.__name__, f"whose '{name}' has shape {array.shape}")
            if not np.isfinite(array).all() or np.any(array < 0):
                raise damaged(cls.__name__, f"whose '{name}' holds impossible values")
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


def _total(number: NDArray[np.intp], values: NDArray | None = None) -> NDArray:
    """Return the sum of the values of the atoms of each element, shape (119,)."""
    return np.bincount(number, values, NUMBER_OF_COLUMNS)
