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
from tfpes.statistics.tables.magnitudes import (
    BINS,
    LARGE,
    LARGE_BIN,
    at,
    bin_of,
    by_magnitude,
    places_of_squares,
)

_SUMS = ("largest", "atoms", "missing")
_COUNTS = ("components", "structures", "atom_components", "atom_squares")


class AtomicTable:
    r"""For each element the sum of squared force components, and how large they are.

    A component that is NaN is not there; atoms of number 0 are padding; weight 0
    leaves an atom out. Weights are frequencies. Components, atoms and structures are
    counted by magnitude, because only the whole table tells which of them are nothing
    but rounding, and which are far out.

    Example:
        >>> table = AtomicTable()
        >>> table.update([8, 1, 0], [[1.0, 2, 2], [0, 3, float("nan")], [9, 9, 9]])
        >>> table.squares[[1, 8]], table.number("components")[[1, 8]]
        (array([9., 9.]), array([2., 3.]))
    """

    def __init__(self) -> None:
        """Start empty."""
        self.components = np.zeros((NUMBER_OF_COLUMNS, BINS))
        """Weighted number of force components, by magnitude, shape (119, bins)."""
        self.structures = np.zeros((NUMBER_OF_COLUMNS, BINS))
        """Weighted number of structures that hold the element, by the root mean square
        of its components there, shape (119, bins)."""
        self.atom_components = np.zeros((NUMBER_OF_COLUMNS, BINS))
        """Weighted number of components, by the root mean square of those of their
        atom, shape (119, bins)."""
        self.atom_squares = np.zeros((NUMBER_OF_COLUMNS, BINS))
        """Their weighted sum of squares, (eV/Å)², shape (119, bins)."""
        self.largest = np.zeros(NUMBER_OF_COLUMNS)
        """Greatest absolute component, eV/Å, shape (119,)."""
        self.atoms = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms with at least one component, shape (119,)."""
        self.missing = np.zeros(NUMBER_OF_COLUMNS, np.int64)
        """Atoms without any, shape (119,)."""

    def __setstate__(self, state: Mapping[str, NDArray]) -> None:
        """Copy: what is read of a pickle may be read-only, and is added to."""
        self.__dict__ = {name: np.array(array) for name, array in state.items()}

    @property
    def squares(self) -> NDArray[np.float64]:
        """Weighted sum of squared components, (eV/Å)², shape (119,)."""
        return self.atom_squares.sum(axis=1)

    def number(self, of: str, least: float = 0.0) -> NDArray[np.float64]:
        """Return weighted numbers ``of`` "components" or "structures", (119,).

        Args:
            of: what to count.
            least: magnitude that counts, eV/Å; bins below it are left out.
        """
        return getattr(self, of)[:, bin_of(least) :].sum(axis=1)

    def trimmed(self, share: float, least: float = 0.0) -> float:
        """Return the sum of all squares but those of the largest forces, (eV/Å)².

        Args:
            share: of the atoms that is left out.
            least: magnitude that counts, eV/Å.
        """
        number, squares = (
            np.cumsum(np.append(0.0, part[:, bin_of(least) :].sum(axis=0)))
            for part in (self.atom_components, self.atom_squares)
        )
        return float(np.interp((1 - share) * number[-1], number, squares))

    def winsorised(self, limit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `squares` of forces that are pulled in, (119,).

        Args:
            limit: of the root mean square of the components of an atom, eV/Å, (119,).
        """
        most = self.atom_components * limit[:, None] ** 2
        return np.minimum(self.atom_squares, most).sum(axis=1)

    def median(self, least: float) -> NDArray[np.float64]:
        """Return the median root mean square of the components of an atom, (119,).

        Args:
            least: magnitude that counts, eV/Å; 0 for elements without any.
        """
        first = bin_of(least)
        counts, squares = self.atom_components[:, first:], self.atom_squares[:, first:]
        median = np.zeros(NUMBER_OF_COLUMNS)
        for z in np.flatnonzero(counts.any(axis=1)):
            used = counts[z] > 0
            number = counts[z, used]
            size = np.sqrt(squares[z, used] / number)
            middle = np.cumsum(number) - number / 2
            median[z] = np.interp(number.sum() / 2, middle, size)
        return median

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
        near = np.flatnonzero(squared < LARGE**2)
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
        else:
            weighted = _count(group, weight * (3.0 if labels is None else labels))[held]
            of_small = weight[atom]
        self._add_atoms(number, square, labels, weight)
        small = by_magnitude(number[atom], component.ravel()[near], of_small)
        self.components += small
        self.components[:, LARGE_BIN] += _count(element, weighted) - small.sum(axis=1)
        mean_weight = weighted / of_group
        size = np.sqrt(squares / of_group)
        self.structures += by_magnitude(element, size, mean_weight)
        # Few atoms can beat the record: a component is no longer than its vector.
        bound = self.largest**2 * (1 - 1e-15)
        record = np.flatnonzero(square > bound[number])
        greatest = np.abs(component[:, record]).max(axis=0, initial=0.0)
        np.maximum.at(self.largest, number[record], greatest)

    def _add_atoms(
        self,
        number: NDArray[np.intp],
        square: NDArray[np.float64],
        labels: NDArray[np.float64] | None,
        weight: NDArray[np.float64] | None,
    ) -> None:
        place = places_of_squares(number, square)
        if labels is None and weight is None:
            self.atom_components += 3.0 * at(place)
            self.atom_squares += at(place, square)
            return
        one = np.ones(number.size) if weight is None else weight
        self.atom_components += at(place, one * (3.0 if labels is None else labels))
        self.atom_squares += at(place, one * square)

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
        for name in (*_COUNTS, "atoms", "missing"):
            getattr(self, name)[...] += getattr(other, name)
        np.maximum(self.largest, other.largest, out=self.largest)

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
