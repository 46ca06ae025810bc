import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpes.data.packing import (
    balanced_batches,
    batch_sizes,
    choose_shapes,
    padding_waste,
    shape_of,
)

SIZES = st.lists(
    st.tuples(st.integers(1, 200), st.integers(0, 5000)), min_size=1, max_size=60
).map(np.array)
NEEDED = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 9000)), min_size=1, max_size=40
).map(np.array)


def log_sizes(count, seed=0):
    """Sizes of real sets: atoms over two decades, edges in proportion."""
    rng = np.random.default_rng(seed)
    atoms = np.exp(rng.uniform(0, np.log(100), count)).astype(int) + 1
    return np.stack([atoms, (atoms * rng.uniform(10, 60, count)).astype(int)], axis=1)


@given(SIZES, st.integers(1, 20), st.booleans())
def test_each_structure_occurs_once(sizes, batch_size, shuffle):
    batch_size = min(batch_size, len(sizes))
    rng = np.random.default_rng(0) if shuffle else None
    batches = balanced_batches(sizes, batch_size, rng)
    assert batches.shape == (-(-len(sizes) // batch_size), batch_size)
    assert sorted(batches[batches >= 0]) == list(range(len(sizes)))
    assert (batches >= 0).any(axis=1).all()


@given(SIZES, st.integers(1, 20))
def test_batch_sizes_are_sums(sizes, batch_size):
    batches = balanced_batches(sizes, min(batch_size, len(sizes)))
    expected = [
        [sum(sizes[s, column] for s in batch if s >= 0) for column in range(2)]
        for batch in batches
    ]
    assert batch_sizes(batches, sizes).tolist() == expected


@pytest.mark.parametrize("rng", [None, np.random.default_rng(1)])
def test_batches_are_balanced(rng):
    sizes = log_sizes(800)
    needed = batch_sizes(balanced_batches(sizes, 16, rng), sizes)
    assert (needed.max(axis=0) < 1.15 * needed.mean(axis=0)).all()


def test_without_shuffling_the_result_depends_on_sizes_alone():
    sizes = log_sizes(50)
    first, second = balanced_batches(sizes, 8), balanced_batches(sizes, 8)
    np.testing.assert_array_equal(first, second)


def test_shuffling_lets_structures_meet_others():
    sizes = log_sizes(200)
    rng = np.random.default_rng(0)
    met = set()
    for _ in range(20):
        (row,) = (b for b in balanced_batches(sizes, 8, rng) if 7 in b)
        met |= set(row.tolist())
    # 20 epochs with 7 others each; 200 at most.
    assert len(met) > 60


@given(NEEDED, st.integers(1, 4))
def test_shapes_hold_every_batch(needed, max_shapes):
    shapes = choose_shapes(needed, max_shapes=max_shapes)
    assert 1 <= len(shapes) <= max_shapes
    assert (np.diff(shapes, axis=0) >= 0).all()
    np.testing.assert_array_equal(shapes[-1], needed.max(axis=0))
    chosen = shape_of(needed, shapes)
    assert (needed <= shapes[chosen]).all()
    for row, index in zip(needed, chosen, strict=True):
        assert not any((row <= shape).all() for shape in shapes[:index])


@given(NEEDED)
def test_waste_is_what_is_counted(needed):
    shapes = choose_shapes(needed)
    padded = np.zeros(2)
    for row in needed:
        padded += next(shape for shape in shapes if (row <= shape).all())
    expected = 1 - needed.sum(axis=0) / padded
    np.testing.assert_allclose(padding_waste(needed, shapes), expected, atol=1e-12)


def test_one_shape_where_one_is_enough():
    needed = np.array([[95, 990], [100, 950], [97, 1000]])
    assert choose_shapes(needed).tolist() == [[100, 1000]]


@pytest.mark.parametrize("num_shapes", [1, 2, 3, 4])
def test_thresholds_are_the_best_of_all(num_shapes):
    # Few enough batches for all thresholds to be tried; ascending in both columns.
    needed = np.array([[n, 10 * n] for n in (3, 4, 10, 11, 12, 40, 41, 90)])
    shapes = choose_shapes(needed, max_shapes=num_shapes, max_waste=0.0)

    def padded(chosen):
        return sum(next(n for n in chosen if n >= row) for row in needed[:, 0])

    every = itertools.combinations(needed[:, 0], num_shapes)
    best = min(padded(chosen) for chosen in every if chosen[-1] == 90)
    assert padded(shapes[:, 0]) == best


def test_one_giant_among_small_ones():
    sizes = np.full((161, 2), [4, 40])
    sizes[17] = [400, 8000]
    batches = balanced_batches(sizes, 16)
    needed = batch_sizes(batches, sizes)
    shapes = choose_shapes(needed)
    assert 2 <= len(shapes) <= 4
    # The giant's batch alone is large; the padding stays small.
    assert np.sort(needed[:, 0])[-2] <= 64
    assert padding_waste(needed, shapes).max() < 0.10
