import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpes.data import packing
from tfpes.data.packing import Plan, balanced_batches

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
    shapes = packing._choose_shapes(needed)
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
    shapes = packing._choose_shapes(np.random.default_rng(0).permutation(needed))
    assert shapes.tolist() == [[n, 10 * n] for n in expected]


def test_one_giant_among_small_ones():
    sizes = np.full((161, 2), [4, 40])
    sizes[17] = [400, 8000]
    plan = Plan(sizes, 16, shuffle=False)
    needed = sums(plan.fixed, sizes)
    assert 2 <= len(plan.shapes) <= 4
    # The giant's batch alone is large; the padding stays small.
    assert np.sort(needed[:, 0])[-2] <= 64
    padding = plan.padding()
    assert max(padding.atoms, padding.edges) < 0.10


def test_every_later_epoch_fits():
    sizes = log_sizes(100)
    plan = Plan(sizes, 8, shuffle=True, seed=5)
    for _ in range(200):
        grouping = plan.draw()
        assert sorted(grouping[grouping >= 0]) == list(range(100))
        # With one atom of padding.
        assert (sums(grouping, sizes) + np.array([1, 0]) <= plan.shapes[-1]).all()


def test_epoch_that_never_fits_falls_back_to_the_fixed_grouping(monkeypatch):
    sizes = log_sizes(104)
    plan = Plan(sizes, 8, shuffle=True, seed=5)
    bad = np.argsort(-sizes[:, 0]).reshape(plan.fixed.shape)
    assert (sums(bad, sizes) > plan.shapes[-1]).any()
    monkeypatch.setattr(packing, "balanced_batches", lambda *args: bad)
    drawn = plan.draw().tolist()
    assert sorted(drawn) == sorted(plan.fixed.tolist())
    assert drawn != plan.fixed.tolist()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(processes):
    sizes = log_sizes(100)
    alone = Plan(sizes, 8, shuffle=True, seed=5)
    plans = [Plan(sizes, 8, True, 5, (rank, processes)) for rank in range(processes)]
    assert len({str(plan.shapes) for plan in plans}) == 1
    seen = []
    for epoch in range(40):
        whole = alone.draw(epoch)
        parts = np.stack([plan.draw(epoch) for plan in plans], axis=1)
        # The last batch has 4 structures, so that a process may have none.
        together = [sorted(part[part >= 0]) for part in parts]
        assert together == [sorted(batch[batch >= 0]) for batch in whole]
        needed = np.stack([sums(part, sizes) for part in parts])
        assert (needed + np.array([1, 0]) <= plans[0].shapes[-1]).all()
        seen.append(needed)
        largest = np.stack([sizes[batch].max(axis=0) for batch in whole])
        # No process waits long for another, but where one structure is larger.
        fair = np.maximum(needed.mean(axis=1), largest)
        assert np.mean(needed.max(axis=1) / fair) < 1.25
    seen = np.stack(seen)
    # Nearly all parts fit the shapes beside that of a whole batch.
    assert (seen + np.array([1, 0]) <= plans[0].shapes[-2]).all(axis=3).mean() > 0.98


def test_what_cannot_be_shared():
    class Two:
        rank, size = 0, 2

    with pytest.raises(TypeError, match=r"`share` is a cluster.*Received: 2"):
        packing.rank_and_size(2, 8, False, None)
    with pytest.raises(ValueError, match="must shuffle alike"):
        packing.rank_and_size(Two(), 8, True, None)
    with pytest.raises(ValueError, match="Received: 1 for 2 processes"):
        packing.rank_and_size(Two(), 1, False, None)
    assert packing.rank_and_size(Two(), 8, False, None) == (0, 2)
