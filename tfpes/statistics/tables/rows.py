"""Compositions and moments of many structures in a compact, mergeable form.

A composition is stored as its non-zero counts only (compressed sparse rows), so that
a million of them need tens of megabytes. Beside each composition stand the moments of
the values that were seen with it, which merge exactly (Chan, Pébay).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS

MOMENTS = 8
WEIGHT, MEAN, MEAN_LOW, M2, M3, M4, LOWEST, HIGHEST = range(MOMENTS)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Distinct compositions (or single structures) and the moments of their values.

    Args:
        start: first entry of each row, and the number of entries, shape (U + 1,).
        element: atomic number of each entry, ascending within a row, shape (nnz,).
        count: atoms of that element, shape (nnz,).
        moments: shape (8, U): sum of weights ``k``; mean ``m`` and its rounding
            error (their sum is the mean to twice double precision, without which
            energies near -6e6 eV lose digits at every merge); weighted sums of the
            second, third and fourth powers of the deviations; least and greatest
            value.
    """

    start: NDArray[np.int64]
    element: NDArray[np.uint8]
    count: NDArray[np.uint32]
    moments: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.start.size - 1

    @property
    def weight(self) -> NDArray[np.float64]:
        """Sum of weights ``k`` of each row, shape (U,)."""
        return self.moments[WEIGHT]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean value ``m`` of each row, shape (U,)."""
        return self.moments[MEAN]

    @property
    def mean_low(self) -> NDArray[np.float64]:
        """Rounding error of `mean`: the mean is ``mean + mean_low``."""
        return self.moments[MEAN_LOW]

    @property
    def squared_deviations(self) -> NDArray[np.float64]:
        """Weighted sum of squared deviations ``M2`` from the mean, shape (U,)."""
        return self.moments[M2]

    @property
    def lowest(self) -> NDArray[np.float64]:
        """Least value of each row, shape (U,)."""
        return self.moments[LOWEST]

    @property
    def highest(self) -> NDArray[np.float64]:
        """Greatest value of each row, shape (U,)."""
        return self.moments[HIGHEST]

    @property
    def size(self) -> NDArray[np.float64]:
        """Number of atoms ``N`` of each composition, shape (U,)."""
        return self._sum(self.count.astype(np.float64))

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        fields = (self.start, self.element, self.count, self.moments)
        return sum(array.nbytes for array in fields)

    def _sum(self, entries: NDArray) -> NDArray:
        # Every row has at least one entry (N > 0), as `reduceat` needs.
        if not len(self):
            return np.zeros(0, entries.dtype)
        return np.add.reduceat(entries, self.start[:-1])

    def elements(self) -> NDArray[np.int64]:
        """Return the atomic numbers present, ascending."""
        present = np.bincount(self.element, minlength=NUMBER_OF_COLUMNS)
        return np.flatnonzero(present)

    def matrix(self, elements: NDArray[np.int64]) -> scipy.sparse.csr_array:
        """Return the counts of `elements` (all those present) as a (U, T) matrix."""
        column = np.zeros(NUMBER_OF_COLUMNS, np.int32)
        column[elements] = np.arange(elements.size)
        return scipy.sparse.csr_array(
            (self.count.astype(np.float64), column[self.element], self.start),
            shape=(len(self), elements.size),
        )

    def full_matrix(self) -> scipy.sparse.csr_array:
        """Return the compositions as a sparse matrix of shape (U, 119)."""
        return self.matrix(np.arange(NUMBER_OF_COLUMNS))

    def dense(self) -> NDArray[np.float64]:
        """Return the compositions as an array of shape (U, 119)."""
        return self.full_matrix().toarray()

    def composition(self, row: int) -> dict[int, int]:
        """Return one composition as {atomic number: count}."""
        entries = slice(self.start[row], self.start[row + 1])
        pairs = zip(self.element[entries], self.count[entries], strict=True)
        return {int(z): int(n) for z, n in pairs}

    def take(self, order: NDArray[np.intp]) -> Rows:
        """Return the rows in `order`."""
        length = np.diff(self.start)[order]
        start = np.concatenate([[0], np.cumsum(length)])
        entry = np.arange(start[-1]) + np.repeat(self.start[order] - start[:-1], length)
        return Rows(
            start, self.element[entry], self.count[entry], self.moments[:, order]
        )

    def replace_values(self, value: NDArray[np.float64]) -> Rows:
        """Return the same rows, each holding one value with the weight it has."""
        return dataclasses.replace(self, moments=single_moments(value, self.weight))


def empty_rows() -> Rows:
    """Return a block without rows."""
    return Rows(
        np.zeros(1, np.int64),
        np.zeros(0, np.uint8),
        np.zeros(0, np.uint32),
        np.zeros((MOMENTS, 0)),
    )


def single_moments(
    value: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the moments, shape (8, U), of rows that hold one value each."""
    moments = np.zeros((MOMENTS, value.size))
    moments[WEIGHT] = weight
    moments[[MEAN, LOWEST, HIGHEST]] = value
    return moments


def concatenate(blocks: Sequence[Rows]) -> Rows:
    """Return the rows of all `blocks` one after the other."""
    lengths = np.concatenate([np.diff(block.start) for block in blocks])
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([block.element for block in blocks]),
        np.concatenate([block.count for block in blocks]),
        np.concatenate([block.moments for block in blocks], axis=1),
    )


def _hash(rows: Rows, seed: int) -> NDArray[np.uint64]:
    generator = np.random.default_rng(seed)
    factor = generator.integers(0, 2**64, NUMBER_OF_COLUMNS, np.uint64) | np.uint64(1)
    return rows._sum(factor[rows.element] * rows.count)


def _equal_to_previous(rows: Rows, candidate: NDArray[np.bool_]) -> bool:
    """Return whether each candidate row has the composition of the row before it."""
    length = np.diff(rows.start)
    row = np.flatnonzero(candidate)
    if not np.array_equal(length[row], length[row - 1]):
        return False
    entry = np.flatnonzero(np.repeat(candidate, length))
    previous = entry - np.repeat(length[row], length[row])
    return np.array_equal(
        rows.element[entry], rows.element[previous]
    ) and np.array_equal(rows.count[entry], rows.count[previous])


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
    number = np.diff(np.append(first, len(rows)))

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(values, first)

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.repeat(values, number)

    k, mean, low, m2, m3, m4, lowest, highest = rows.moments
    weight = total(k)
    deviation = (mean - spread(mean[first])) + (low - spread(low[first]))
    shift = np.zeros(first.size)
    for _ in range(2):  # the second pass removes the rounding error of the first
        correction = total(k * deviation) / weight
        shift += correction
        deviation = deviation - spread(correction)
    squared = deviation * deviation
    tail = low[first] + shift
    merged_mean = mean[first] + tail
    moments = np.stack(
        [
            weight,
            merged_mean,
            # Error of the sum above, exactly (Knuth's two-sum).
            _sum_error(mean[first], tail, merged_mean),
            total(m2 + k * squared),
            total(m3 + 3 * deviation * m2 + k * squared * deviation),
            total(m4 + 4 * deviation * m3 + 6 * squared * m2 + k * squared**2),
            np.minimum.reduceat(lowest, first),
            np.maximum.reduceat(highest, first),
        ]
    )
    return dataclasses.replace(rows.take(first), moments=moments)


def _sum_error(
    a: NDArray[np.float64], b: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    b_rounded = total - a
    return (a - (total - b_rounded)) + (b - b_rounded)
