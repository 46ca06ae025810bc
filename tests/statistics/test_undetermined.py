from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.statistics.fit.undetermined import null_vectors


def vectors(matrix):
    return null_vectors(scipy.sparse.csr_array(np.asarray(matrix, float)))


def test_water_and_its_clusters():
    half = Fraction(1, 2)
    assert vectors([[2, 1]]) == [[-half, 1]]
    assert vectors([[2, 1], [4, 2], [6, 3]]) == [[-half, 1]]
    assert vectors([[2, 1], [4, 1]]) == []


def test_reduced_form():
    found = vectors([[8, 5, 2]])
    assert found == [
        [Fraction(-1, 4), 0, 1],
        [Fraction(-5, 8), 1, 0],
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(1, 7),
    st.sampled_from([3, 50, 100_000]),
)
def test_exact_basis_of_the_null_space(seed, rows, columns, most):
    generator = np.random.default_rng(seed)
    matrix = generator.integers(0, most, (rows, columns))
    if columns > 2:
        matrix[:, 0] = matrix[:, 1] + matrix[:, 2]
    found = vectors(matrix)
    for vector in found:
        for row in matrix:
            assert sum(int(n) * b for n, b in zip(row, vector, strict=True)) == 0
    # Enough of them, and independent.
    rank = np.linalg.matrix_rank(matrix.astype(float))
    assert len(found) == columns - rank
    if found:
        assert np.linalg.matrix_rank(np.array(found, float)) == len(found)


@pytest.mark.parametrize("size", [10**8, 2 * 10**9])
def test_integers_beyond_float64(size):
    assert vectors([[size, size - 1], [size - 1, size - 2]]) == []
    found = vectors([[size, size - 1, 1], [size - 1, size - 2, 1]])
    assert found == [[1, -1, -1]] or found == [[-1, 1, 1]]
