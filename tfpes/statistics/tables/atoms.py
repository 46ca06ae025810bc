"""Sufficient statistics of a property of atoms: forces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.checks import check_weights
from tfpes.statistics.tables.storage import (
    FORMAT_VERSION,
    check_state,
    damaged,
    load_state,
    save_state,
)

KIND = "AtomicTable"
ARRAYS = ("components", "squares", "largest", "atoms", "missing")


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

    @property
    def counts(self) -> NDArray[np.float64]:
        """Weighted number of atoms ``n_z``: a third of the components, (119,)."""
        return self.components / 3

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
        square = _norm(component)
        _check_finite(component, square)
        used = number > 0 if weight is None else (number > 0) & (weight > 0)
        if not used.all():
            number, component, square = number[used], component[:, used], square[used]
            weight = None if weight is None else weight[used]
        labels: Any = 3
        atoms = _count(number)
        if np.isnan(square).any():
            present = ~np.isnan(component)
            component = np.where(present, component, 0.0)
            square = _norm(component)
            labels = present.sum(axis=0)
            labelled = _count(number, labels > 0)
            self.missing += (atoms - labelled).astype(np.int64)
            atoms = labelled
        self.atoms += atoms.astype(np.int64)
        if weight is None:
            weighted = 3 * atoms if isinstance(labels, int) else _count(number, labels)
            self.components += weighted
            self.squares += _count(number, square)
        else:
            self.components += _count(number, weight * labels)
            self.squares += _count(number, weight * square)
        # Few atoms can beat the record: a component is no longer than its vector.
        bound = self.largest**2 * (1 - 1e-15)
        record = np.flatnonzero(square > bound[number])
        greatest = np.abs(component[:, record]).max(axis=0, initial=0.0)
        np.maximum.at(self.largest, number[record], greatest)

    def merge(self, other: AtomicTable) -> None:
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
        """Return the table as plain arrays, for `from_state` or an npz file."""
        state = {name: getattr(self, name).copy() for name in ARRAYS}
        return {"kind": np.array(KIND), "version": np.array(FORMAT_VERSION), **state}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> AtomicTable:
        """Return the table that `state` was taken from.

        Raises:
            ValueError: if the state is damaged, of another kind or another version.
        """
        check_state(state, KIND, ARRAYS)
        table = cls()
        for name in ARRAYS:
            old = getattr(table, name)
            array = np.array(state[name], old.dtype)
            if array.shape != old.shape:
                raise damaged(KIND, f"whose '{name}' has shape {array.shape}")
            if not np.isfinite(array).all() or np.any(array < 0):
                raise damaged(KIND, f"whose '{name}' holds impossible values")
            setattr(table, name, array)
        return table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to an npz file, in one step."""
        save_state(path, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AtomicTable:
        """Read a table that `save` wrote.

        Raises:
            ValueError: if the file is damaged or of another version.
        """
        return cls.from_state(load_state(path))


def _checked_numbers(number: NDArray) -> NDArray[np.intp]:
    """Return atomic numbers as indices, or raise."""
    with np.errstate(invalid="ignore"):  # NaN as an integer
        whole = number.astype(np.intp)
    # Negative numbers are huge ones then.
    bad = whole.view(np.uintp) >= NUMBER_OF_COLUMNS
    if number.dtype.kind not in "iu":
        bad |= whole != number
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        raise ValueError(
            "`atomic_numbers` must be whole numbers from 0 (padding) to 118. Received: "
            f"{number[where]} for atom {where}."
        )
    return whole


def _norm(component: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared length of each vector, shape (A,), of components (3, A)."""
    return (component * component).sum(axis=0)


def _check_finite(component: NDArray[np.float64], square: NDArray[np.float64]) -> None:
    # The squares have a third of the numbers: look at the forces only if need be.
    if np.isfinite(square).all() or not np.isinf(component).any():
        return
    where = int(np.flatnonzero(np.isinf(component).any(axis=0))[0])
    raise ValueError(
        "`forces` must be finite, or NaN where there is no label. Received: "
        f"{component[:, where]} for atom {where}. Remove the structure, or set them to "
        "NaN."
    )


def _count(number: NDArray[np.intp], values: NDArray | None = None) -> NDArray:
    return np.bincount(number, values, NUMBER_OF_COLUMNS)
