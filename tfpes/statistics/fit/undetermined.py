"""Which combinations of elements the compositions cannot tell, in exact numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

# Sums of integers below this are exact in float64.
EXACT = 2.0**53
# Rows looked at first: with many, one of them nearly always sees a vector.
FIRST_ROWS = 10_000


def null_vectors(matrix: scipy.sparse.csr_array) -> list[list[Fraction]]:
    r"""Return a basis of all $b$ with $n_c\cdot b = 0$ for every composition.

    Adding such a $b$ to the energies $\mu$ of the elements changes no prediction.
    One pass for each element, in integers: a vector that some row $n$ sees is
    removed, and a multiple of it is subtracted from the others so that they no
    longer see that row. The basis is reduced: each vector has +1 at an element
    where the others have 0, the last possible one.

    Args:
        matrix: counts, shape (U, T).

    Returns:
        Vectors of T fractions; none at full rank.
    """
    columns = matrix.shape[1]
    unknown = [[int(i == j) for j in range(columns)] for i in range(columns)]
    accepted: list[list[int]] = []
    size = int(np.max(matrix.sum(axis=1), initial=0.0))
    first = matrix[:FIRST_ROWS]
    while unknown:
        vector = unknown.pop(0)
        row = _row_that_sees(first, vector, size)
        if row is None and matrix.shape[0] > FIRST_ROWS:
            row = _row_that_sees(matrix, vector, size)
        if row is None:
            accepted.append(vector)
            continue
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        counts = [
            (int(j), int(n))
            for j, n in zip(matrix.indices[entries], matrix.data[entries], strict=True)
        ]
        pivot = _dot(counts, vector)
        unknown = [
            _combined(pivot, other, -_dot(counts, other), vector) for other in unknown
        ]
    return _reduced(accepted)


def _dot(counts: list[tuple[int, int]], vector: list[int]) -> int:
    return sum(n * vector[j] for j, n in counts)


def _combined(p: int, one: list[int], q: int, other: list[int]) -> list[int]:
    """Return ``p one + q other`` without the common divisor."""
    vector = [p * a + q * b for a, b in zip(one, other, strict=True)]
    divisor = math.gcd(*vector)
    return [value // divisor for value in vector]


def _row_that_sees(
    matrix: scipy.sparse.csr_array, vector: list[int], size: int
) -> int | None:
    """Return a row with a non-zero, preferably small, product, or None.

    Args:
        matrix: counts.
        vector: integers.
        size: greatest sum of a row of counts.
    """
    largest = max(abs(value) for value in vector)
    if largest * size < EXACT:
        product = np.abs(matrix @ np.array(vector, np.float64))
        seen = np.flatnonzero(product)
        # Small pivots keep the integers small.
        return int(seen[np.argmin(product[seen])]) if seen.size else None
    # Beyond that, exactly by remainders: a number below the product of some primes
    # is zero if it is zero modulo each of them.
    covered = 1
    for prime in _primes():
        entries = matrix.data.astype(np.int64) % prime
        values = np.array([value % prime for value in vector], np.int64)
        terms = entries * values[matrix.indices] % prime
        parts = (terms, matrix.indices, matrix.indptr)
        total = scipy.sparse.csr_array(parts, matrix.shape).sum(axis=1) % prime
        seen = np.flatnonzero(total)
        if seen.size:
            return int(seen[0])
        covered *= prime
        if covered > largest * size:
            return None
    raise AssertionError  # pragma: no cover


def _primes() -> Iterator[int]:
    """Yield primes from the greatest whose products fit in 64 bits, downwards."""
    limit = 2**31
    small = np.arange(3, math.isqrt(limit) + 1, 2)
    for candidate in range(limit - 1, 3, -2):
        if np.all(candidate % small):
            yield candidate


def _reduced(vectors: list[list[int]]) -> list[list[Fraction]]:
    """Return the reduced echelon form, eliminating from the last column."""
    rows = [[Fraction(value) for value in vector] for vector in vectors]
    done = 0
    for column in range(len(rows[0]) - 1 if rows else -1, -1, -1):
        pivot = next((i for i in range(done, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        lead = rows[done][column]
        rows[done] = [value / lead for value in rows[done]]
        for i, row in enumerate(rows):
            if i != done and row[column]:
                factor = row[column]
                pairs = zip(row, rows[done], strict=True)
                rows[i] = [a - factor * b for a, b in pairs]
        done += 1
    return rows


def as_combinations(
    vectors: list[list[Fraction]], elements: NDArray[np.int64]
) -> list[dict[int, Fraction]]:
    """Return vectors as {atomic number: coefficient}, zeros left out."""
    return [
        {int(z): x for z, x in zip(elements, vector, strict=True) if x}
        for vector in vectors
    ]
