"""Sums over structures that the estimator needs, fast for few rows and for many."""

import functools

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# Products of two entries of a row, held at once (12 bytes each); beyond, in blocks.
_MOST_PAIRS = 40_000_000
_BLOCK_ROWS = 4096


class Design:
    """Compositions ``n``, shape (U, T), with the two quadratic sums of the estimator.

    ``gram(w) = sum_c w_c n_c n_c^T`` and ``quadratic(A)_c = n_c^T A n_c`` are linear
    in ``w`` and in ``A``. Expanding the few products of each row once turns both into
    a sparse matrix-vector product, a hundred times cheaper than dense algebra for a
    million compositions of 89 elements.
    """

    def __init__(self, matrix: scipy.sparse.csr_array) -> None:
        """Take the compositions, shape (U, T)."""
        self.matrix = matrix.astype(np.float64)
        self.rows, self.columns = matrix.shape
        length = np.diff(matrix.indptr).astype(np.int64)
        self._is_paired = np.sum(length * (length + 1) // 2) <= _MOST_PAIRS

    def predict(self, coefficient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n @ coefficient``, shape (U,)."""
        return self.matrix @ coefficient

    def adjoint(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T @ values``, shape (T,)."""
        return self.matrix.T @ values

    def gram(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n^T diag(weight) n``, shape (T, T)."""
        if self._is_paired:
            upper = (self._pairs.T @ weight).reshape(self.columns, self.columns)
            return (upper + upper.T) / 2
        total = np.zeros((self.columns, self.columns))
        for block in self._blocks():
            dense = self.matrix[block].toarray()
            total += dense.T @ (dense * weight[block, None])
        return total

    def quadratic(self, form: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``n_c^T form n_c`` of each row, for a symmetric form, shape (U,)."""
        if self._is_paired:
            return self._pairs @ form.ravel()
        values = np.empty(self.rows)
        for block in self._blocks():
            dense = self.matrix[block].toarray()
            values[block] = np.einsum("ij,ij->i", dense @ form, dense)
        return values

    def _blocks(self) -> list[slice]:
        starts = range(0, self.rows, _BLOCK_ROWS)
        return [slice(start, start + _BLOCK_ROWS) for start in starts]

    @functools.cached_property
    def _pairs(self) -> scipy.sparse.csr_array:
        """``n_a n_b`` (twice that for a < b) in column ``a T + b``."""
        matrix = self.matrix
        entries = matrix.indices.size
        # Each entry pairs with itself and with those that follow it in its row.
        end = np.repeat(matrix.indptr[1:], np.diff(matrix.indptr))
        partners = end - np.arange(entries)
        first = np.repeat(np.arange(entries, dtype=np.int32), partners)
        offset = np.concatenate([[0], np.cumsum(partners)])
        ahead = np.arange(offset[-1]) - np.repeat(offset[:-1], partners)
        second = first + ahead
        product = matrix.data[first] * matrix.data[second]
        product[ahead > 0] *= 2
        column = matrix.indices[first] * self.columns + matrix.indices[second]
        return scipy.sparse.csr_array(
            (product, column.astype(np.int32), offset[matrix.indptr]),
            shape=(self.rows, self.columns**2),
        )
