"""Which combinations of elements the compositions cannot tell, in exact numbers."""

import math
from fractions import Fraction

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# Sums of integers below this are exact in float64.
_EXACT = 2.0**53
# Rows looked at first: with many, one of them nearly always sees a vector.
_FIRST_ROWS = 10_000


def null_vectors(matrix: scipy.sparse.csr_array) -> list[list[Fraction]]:
    r"""Return a basis of all $b$ with $n_c\cdot b = 0$ for every composition.

    Adding such a $b$ to the energies $\mu$ of the elements changes no prediction.
    One pass for each element, in integers: a vector that some row $n$ sees is
    removed, and a multiple of it is subtracted from the others so that they no
    longer see that row. The basis is reduced: each vector has +1 at an element
    where the others have 0, the last possible one.

    Args:
        matrix: compositions, shape (U, T).

    Returns:
        Vectors of T fractions; none at full rank.
    """
    columns = matrix.shape[1]
    unknown = [[int(i == j) for j in range(columns)] for i in range(columns)]
    found: list[list[Fraction]] = []
    for column in range(columns):
        vector = unknown.pop(0)
        row = _row_that_sees(matrix[:_FIRST_ROWS], vector)
        if row is None and matrix.shape[0] > _FIRST_ROWS:
            row = _row_that_sees(matrix, vector)
        if row is None:
            # Only vectors that were removed have been added to it.
            found.insert(0, [Fraction(value, vector[column]) for value in vector])
            continue
        entries = _entries(matrix, row)
        pivot = _dot(entries, vector)
        unknown = [
            _combined(pivot, other, -_dot(entries, other), vector) for other in unknown
        ]
    return found


def as_combinations(
    vectors: list[list[Fraction]], elements: NDArray[np.int64]
) -> list[dict[int, Fraction]]:
    """Return vectors as {atomic number: coefficient}, zeros left out."""
    return [
        {int(z): x for z, x in zip(elements, vector, strict=True) if x}
        for vector in vectors
    ]


def _entries(matrix: scipy.sparse.csr_array, row: int) -> list[tuple[int, int]]:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    pairs = zip(matrix.indices[part], matrix.data[part], strict=True)
    return [(int(j), int(n)) for j, n in pairs]


def _dot(entries: list[tuple[int, int]], vector: list[int]) -> int:
    return sum(n * vector[j] for j, n in entries)


def _combined(p: int, one: list[int], q: int, other: list[int]) -> list[int]:
    """Return ``p one + q other`` without the common divisor."""
    vector = [p * a + q * b for a, b in zip(one, other, strict=True)]
    divisor = math.gcd(*vector)
    return [value // divisor for value in vector]


def _row_that_sees(matrix: scipy.sparse.csr_array, vector: list[int]) -> int | None:
    """Return a row with a non-zero, preferably small, product, or None."""
    largest = max(abs(value) for value in vector)
    if largest * np.max(matrix.sum(axis=1), initial=0.0) < _EXACT:
        product = np.abs(matrix @ np.array(vector, np.float64))
        seen = np.flatnonzero(product)
        # Small pivots keep the integers small.
        return int(seen[np.argmin(product[seen])]) if seen.size else None
    rows = range(matrix.shape[0])
    return next((row for row in rows if _dot(_entries(matrix, row), vector)), None)
