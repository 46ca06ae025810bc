"""Sums over structures that the estimator needs, fast for few rows and for many."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# One product of counts in sparse algebra costs as much as this many in dense algebra,
# which has T² of them in each row.
DENSE_SHARE = 30
# Numbers held at once (products of counts take 12 bytes each); beyond, work in blocks.
MOST_NUMBERS = 40_000_000
BLOCK_ROWS = 4096


class Design:
    """Counts ``n``, shape (U, T), with the two quadratic sums of the estimator.

    ``gram(w) = sum_c w_c n_c n_c^T`` and ``quadratic(A)_c = n_c^T A n_c`` are linear
    in ``w`` and in ``A``. Expanding the few products of counts of each row once turns
    both into a sparse matrix-vector product, a hundred times cheaper than dense
    algebra for a million compositions of 89 elements. Few elements, most of them in
    each row, are faster as a dense array.
    """

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        """Take the counts, shape (U, T)."""
        self.matrix = matrix
        self.rows, self.columns = matrix.shape
        length = np.diff(matrix.indptr).astype(np.int64)
        pairs = int(np.sum(length * (length + 1) // 2))
        is_dense = self.rows * self.columns**2 <= DENSE_SHARE * pairs
        self._numbers = self.rows * self.columns if is_dense else pairs
        self._is_dense = is_dense and self._numbers <= MOST_NUMBERS
        self._is_paired = not is_dense and self._numbers <= MOST_NUMBERS

    @functools.cached_property
    def _array(self) -> NDArray[np.float64]:
        return self.matrix.toarray()

    @functools.cached_property
    def _pairs(self) -> scipy.sparse.csr_array:
        return _pair_products(self.matrix)

    def predict(self, coefficient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n @ coefficient``, shape (U,)."""
        return self._counts @ coefficient

    def adjoint(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T @ values``, shape (T,)."""
        return self._counts.T @ values

    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T diag(weight) n``, shape (T, T)."""
        if self._is_paired:
            upper = (self._pairs.T @ weight).reshape(self.columns, self.columns)
            return (upper + upper.T) / 2
        total = np.zeros((self.columns, self.columns))
        for block, dense in self._blocks():
            total += dense.T @ (dense * weight[block, None])
        return total

    def quadratic(self, form: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n_c^T form n_c`` of each row, for a symmetric form, shape (U,)."""
        if self._is_paired:
            return self._pairs @ form.ravel()
        values = np.empty(self.rows)
        for block, dense in self._blocks():
            values[block] = np.einsum("ij,ij->i", dense @ form, dense)
        return values

    @property
    def _counts(self) -> Any:
        return self._array if self._is_dense else self.matrix

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        for start in range(0, self.rows, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            dense = (
                self._array[block] if self._is_dense else self.matrix[block].toarray()
            )
            yield block, dense


def _pair_products(matrix: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return ``n_a n_b`` (twice that for a < b) in column ``a T + b``, as CSR."""
    length = np.diff(matrix.indptr)
    entries = matrix.indices.size
    # Entry at position p of a row of length L pairs with itself and the L - p - 1
    # that follow it.
    end = np.repeat(matrix.indptr[1:], length)
    partners = end - np.arange(entries)
    first = np.repeat(np.arange(entries, dtype=np.int32), partners)
    offset = np.concatenate([[0], np.cumsum(partners)])
    second = np.arange(offset[-1]) - np.repeat(
        offset[:-1] - np.arange(entries), partners
    )
    product = matrix.data[first] * matrix.data[second]
    product[first != second] *= 2
    column = matrix.indices[first] * np.int32(matrix.shape[1]) + matrix.indices[second]
    start = offset[matrix.indptr]
    return scipy.sparse.csr_array(
        (product, column.astype(np.int32), start),
        shape=(matrix.shape[0], matrix.shape[1] ** 2),
    )
