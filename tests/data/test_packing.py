import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpes.data.packing import balanced_batches, choose_shapes

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


def sums(batches, sizes):
    """Sum the sizes over batches with a loop."""
    return np.array([sizes[batch[batch >= 0]].sum(axis=0) for batch in batches])


def padded(needed, shapes):
    """Return the first of the shapes that holds each batch, with a loop."""
    return np.array([next(s for s in shapes if (row <= s).all()) for row in needed])


@given(SIZES, st.integers(1, 20), st.booleans())
def test_each_structure_occurs_once(sizes, batch_size, shuffle):
    rng = np.random.default_rng(0) if shuffle else None
    batches = balanced_batches(sizes, batch_size, rng)
    batch_size = min(batch_size, len(sizes))
    assert batches.shape == (-(-len(sizes) // batch_size), batch_size)
    assert sorted(batches[batches >= 0]) == list(range(len(sizes)))
    assert (batches[:, 0] >= 0).all()
    # What is missing is at the end.
    assert (np.diff((batches < 0).astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("seed", [None, 1])
def test_batches_are_balanced(seed):
    sizes = log_sizes(800)
    rng = seed and np.random.default_rng(seed)
    needed = sums(balanced_batches(sizes, 16, rng), sizes)
    assert (needed.max(axis=0) < 1.08 * needed.mean(axis=0)).all()


def test_shuffling_lets_structures_meet_others():
    sizes = log_sizes(200)
    rng = np.random.default_rng(0)
    met = set()
    for _ in range(20):
        (row,) = (b for b in balanced_batches(sizes, 8, rng) if 7 in b)
        met |= set(row.tolist())
    # 20 epochs with 7 others each; 200 at most.
    assert len(met) > 60


@given(NEEDED)
def test_shapes_hold_every_batch(needed):
    shapes = choose_shapes(needed)
    assert 1 <= len(shapes) <= 4
    assert (np.diff(shapes, axis=0) >= 0).all()
    np.testing.assert_array_equal(shapes[-1], needed.max(axis=0))
    one = 1 - needed.mean(axis=0) / needed.max(axis=0)
    waste = 1 - needed.sum(axis=0) / padded(needed, shapes).sum(axis=0)
    assert (waste <= one + 1e-12).all()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # One is enough; one more takes the giant alone, or those that are alike.
        ([95, 100, 97], [100]),
        ([10, 10, 11, 11, 90], [11, 90]),
        ([3, 4, 10, 10, 40, 40, 90, 90], [10, 40, 90]),
    ],
)
def test_shapes_are_where_they_save_most(sizes, expected):
    needed = np.array(sizes)[:, None] * [1, 10]
    shapes = choose_shapes(np.random.default_rng(0).permutation(needed))
    assert shapes.tolist() == [[n, 10 * n] for n in expected]
