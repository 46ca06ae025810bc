"""Compositions and moments of many structures in a compact, mergeable form.

A composition is stored as its non-zero entries only (compressed sparse rows), so that
a million of them need a hundred megabytes. Beside each composition stand the moments
of the values that were seen with it, which merge exactly (Chan, Pébay).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.checks import check_names, damaged


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Distinct compositions (or single structures) and the moments of their values.

    Args:
        composition: atoms of each element, elements ascending within a row, no row
            empty, CSR of shape (U, 119), uint32.
        weight: sum of weights ``k`` of each row, shape (U,), as all that follow.
        mean: ``m``.
        squared_deviations: weighted sum ``M2`` of squared deviations from the mean.
        third: weighted sum of third powers of the deviations.
        fourth: of fourth powers.
        lowest: least value.
        highest: greatest value.
        number: of structures.
    """

    composition: scipy.sparse.csr_array
    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    squared_deviations: NDArray[np.float64]
    third: NDArray[np.float64]
    fourth: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    number: NDArray[np.int64]

    @classmethod
    def single(
        cls,
        composition: scipy.sparse.csr_array,
        value: NDArray[np.float64],
        weight: NDArray[np.float64],
    ) -> "Rows":
        """Return rows that hold one value each, with its weight."""
        zero, one = np.zeros(value.size), np.ones(value.size, np.int64)
        return cls(composition, weight, value, zero, zero, zero, value, value, one)

    @classmethod
    def empty(cls) -> "Rows":
        """Return a block without rows."""
        composition = scipy.sparse.csr_array((0, NUMBER_OF_COLUMNS), dtype=np.uint32)
        return cls.single(composition, np.zeros(0), np.zeros(0))

    def moments(self) -> list[NDArray]:
        """Return what there is beside the composition."""
        return [getattr(self, name) for name in _MOMENTS]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.weight.size

    @property
    def size(self) -> NDArray[np.float64]:
        """Number of atoms ``N`` of each composition, shape (U,)."""
        return self.composition @ np.ones(NUMBER_OF_COLUMNS)

    def elements(self) -> NDArray[np.int64]:
        """Return the atomic numbers present, ascending."""
        return np.unique(self.composition.indices)

    def structures_per_element(self) -> NDArray[np.int64]:
        """Return the number of structures that hold each element, shape (119,)."""
        number = np.repeat(self.number, np.diff(self.composition.indptr))
        total = np.bincount(self.composition.indices, number, NUMBER_OF_COLUMNS)
        return total.astype(np.int64)

    def composition_of(self, row: int) -> dict[int, int]:
        """Return one composition as {atomic number: count}."""
        one = self.composition[[row]]
        return dict(zip(one.indices.tolist(), one.data.tolist(), strict=True))

    def take(self, order: NDArray) -> "Rows":
        """Return the rows in `order`, or those of a mask."""
        return Rows(
            self.composition[order], *(values[order] for values in self.moments())
        )

    def state(self, prefix: str) -> dict[str, NDArray]:
        """Return the arrays, named with a prefix."""
        content = self.composition
        arrays = (content.indptr, content.indices.astype(np.uint8), content.data)
        named = zip(_STATE, (*arrays, *self.moments()), strict=True)
        return {f"{prefix}_{name}": array.copy() for name, array in named}

    @classmethod
    def from_state(
        cls, state: Mapping[str, NDArray], prefix: str, owner: str
    ) -> "Rows":
        """Return the rows of a state after checking that they are a valid block.

        Raises:
            ValueError: if they are not; the message names the `owner`.
        """
        names = [f"{prefix}_{name}" for name in _STATE]
        check_names(state, owner, names)
        start, element, count, *moments = (np.array(state[name]) for name in names)
        shape = (start.size - 1, NUMBER_OF_COLUMNS)
        try:
            if any(values.shape != shape[:1] for values in moments):
                raise ValueError
            indices = element.astype(np.int32), start.astype(np.int32)
            composition = scipy.sparse.csr_array((count, *indices), shape=shape)
            composition.check_format(full_check=True)
        except ValueError as error:
            raise damaged(owner, f"whose '{prefix}' arrays do not fit") from error
        rows = cls(composition.astype(np.uint32), *moments)
        if (
            not all(np.isfinite(values).all() for values in moments)
            or np.any(rows.weight <= 0)
            or np.any(rows.squared_deviations < 0)
            or np.any(rows.number < 1)
            or np.any(np.diff(start) < 1)
            or not count.all()
            or not element.all()
        ):
            raise damaged(owner, f"whose '{prefix}' arrays hold impossible values")
        return rows


_MOMENTS = tuple(field.name for field in dataclasses.fields(Rows)[1:])
_STATE = ("start", "element", "count", *_MOMENTS)


def concatenate(blocks: Sequence[Rows]) -> Rows:
    """Return the rows of all `blocks` one after the other."""
    composition = [block.composition for block in blocks]
    moments = zip(*(block.moments() for block in blocks), strict=True)
    return Rows(
        scipy.sparse.vstack(composition, format="csr"), *map(np.concatenate, moments)
    )


def _hash(rows: Rows, seed: int) -> NDArray[np.uint64]:
    generator = np.random.default_rng(seed)
    factor = generator.integers(0, 2**64, NUMBER_OF_COLUMNS, np.uint64) | np.uint64(1)
    return rows.composition @ factor


def _equal_to_previous(rows: Rows, candidate: NDArray[np.bool_]) -> bool:
    """Return whether each candidate row has the composition of the row before it."""
    row = np.flatnonzero(candidate)
    one, other = rows.composition[row], rows.composition[row - 1]
    return (
        np.array_equal(one.indptr, other.indptr)
        and np.array_equal(one.indices, other.indices)
        and np.array_equal(one.data, other.data)
    )


def _sort(rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Sort rows so that equal compositions are neighbours; mark repeated ones.

    The order is that of a fixed hash of the composition: it depends on the set of
    compositions alone. Rows of equal hash are compared in full, and the hash is
    changed if two different compositions share it (about once in 1e7 tables of a
    million), so grouping is exact.
    """
    for seed in itertools.count():
        key = _hash(rows, seed)
        # Then by value, so that ties do not depend on the order of arrival.
        order = np.lexsort((rows.mean, key))
        key = key[order]
        repeated = np.concatenate([[False], key[1:] == key[:-1]])
        ordered = rows.take(order)
        if _equal_to_previous(ordered, repeated):
            return ordered, repeated
    raise AssertionError  # pragma: no cover


def sort_rows(rows: Rows) -> Rows:
    """Return the rows in the canonical order, without merging any."""
    return _sort(rows)[0] if len(rows) else rows


def group_rows(rows: Rows) -> Rows:
    """Merge rows of equal composition and return them in the canonical order.

    The moments of a group follow from those of its parts, with ``d = m_i - m``:
    ``M2 = sum(M2_i + k_i d²)``, ``M3 = sum(M3_i + 3 d M2_i + k_i d³)``,
    ``M4 = sum(M4_i + 4 d M3_i + 6 d² M2_i + k_i d⁴)``.

    Reference:
        Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983); Pébay, SAND2008-6212.
    """
    if not len(rows):
        return rows
    rows, repeated = _sort(rows)
    if not repeated.any():
        return rows
    first = np.flatnonzero(~repeated)
    members = np.diff(np.append(first, len(rows)))

    def total(values: NDArray) -> NDArray:
        return np.add.reduceat(values, first)

    k, mean = rows.weight, rows.mean
    m2, m3, m4 = rows.squared_deviations, rows.third, rows.fourth
    weight = total(k)
    # From the mean of one of them: energies near -6e6 eV differ by 0.1 eV.
    deviation = mean - np.repeat(mean[first], members)
    shift = total(k * deviation) / weight
    deviation -= np.repeat(shift, members)
    squared = deviation * deviation
    return Rows(
        rows.composition[first],
        weight,
        mean[first] + shift,
        total(m2 + k * squared),
        total(m3 + 3 * deviation * m2 + k * squared * deviation),
        total(m4 + 4 * deviation * m3 + 6 * squared * m2 + k * squared**2),
        np.minimum.reduceat(rows.lowest, first),
        np.maximum.reduceat(rows.highest, first),
        total(rows.number),
    )
