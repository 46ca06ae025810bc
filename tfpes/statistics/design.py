"""Sums over structures that the estimator needs, fast for few rows and for many."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# Below this, BLAS on dense blocks is as fast as anything.
SMALL_ROWS = 4096
# Products of counts held at once (12 bytes each); beyond, work in dense blocks.
MOST_PAIRS = 40_000_000


class Design:
    """Counts ``n``, shape (U, T), with the two quadratic sums of the estimator.

    ``gram(w) = sum_c w_c n_c n_c^T`` and ``quadratic(A)_c = n_c^T A n_c`` are linear
    in ``w`` and in ``A``. Expanding the few products of counts of each row once turns
    both into a sparse matrix-vector product, a hundred times cheaper than dense
    algebra for a million compositions of 89 elements.
    """

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        """Take the counts, shape (U, T)."""
        self.matrix = matrix
        self.rows, self.columns = matrix.shape
        length = np.diff(matrix.indptr).astype(np.int64)
        pairs = int(np.sum(length * (length + 1) // 2))
        self._pairs = None
        if self.rows > SMALL_ROWS and pairs <= MOST_PAIRS:
            self._pairs = _pair_products(matrix)

    def predict(self, coefficient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n @ coefficient``, shape (U,)."""
        return self.matrix @ coefficient

    def adjoint(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T @ values``, shape (T,)."""
        return self.matrix.T @ values

    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T diag(weight) n``, shape (T, T)."""
        if self._pairs is not None:
            upper = (self._pairs.T @ weight).reshape(self.columns, self.columns)
            return (upper + upper.T) / 2
        total = np.zeros((self.columns, self.columns))
        for block in self._blocks():
            dense = self.matrix[block].toarray()
            total += dense.T @ (dense * weight[block, None])
        return total

    def quadratic(self, form: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n_c^T form n_c`` of each row, for a symmetric form, shape (U,)."""
        if self._pairs is not None:
            return self._pairs @ form.ravel()
        values = np.empty(self.rows)
        for block in self._blocks():
            dense = self.matrix[block].toarray()
            values[block] = np.einsum("ij,ij->i", dense @ form, dense)
        return values

    def _blocks(self) -> list[slice]:
        return [slice(i, i + SMALL_ROWS) for i in range(0, self.rows, SMALL_ROWS)]


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
