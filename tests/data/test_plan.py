"""Windows, batches and shapes of an epoch."""

import numpy as np
import pytest

from tfpes.data import plan as planning
from tfpes.data.plan import Plan, rank_and_size


def log_sizes(count, seed=0):
    """Sizes of real sets: atoms over two decades, edges in proportion."""
    rng = np.random.default_rng(seed)
    atoms = np.exp(rng.uniform(0, np.log(100), count)).astype(int) + 1
    return np.stack([atoms, (atoms * rng.uniform(10, 60, count)).astype(int)], axis=1)


def sums(batches, sizes):
    """Sum the sizes over batches with a loop."""
    return np.array([sizes[batch].sum(axis=0) for batch in batches])


def epoch_of(plan, epoch=0):
    """Return the structures of all batches of an epoch, and the shapes."""
    batches, shapes = [], []
    for row in zip(*plan.deal(epoch), strict=True):
        members, grouping, padded = plan.draw(*row)
        batches += [members[picked[picked >= 0]] for picked in grouping]
        shapes += padded.tolist()
    return batches, np.array(shapes)


def test_one_giant_among_small_ones():
    sizes = np.full((161, 2), [4, 40])
    sizes[17] = [400, 8000]
    plan = Plan(sizes, 16, shuffle=False)
    needed = sums(epoch_of(plan)[0], sizes)
    assert 2 <= len(plan.shapes) <= 4
    # The giant's batch alone is large; the padding stays small.
    assert np.sort(needed[:, 0])[-2] <= 64
    padding = plan.padding()
    assert max(padding.atoms, padding.edges) < 0.10


@pytest.mark.parametrize("count", [100, 1300])
def test_every_later_epoch_fits(count):
    sizes = log_sizes(count)
    plan = Plan(sizes, 8, shuffle=True, seed=5)
    for epoch in range(100 if count == 100 else 6):
        batches, shapes = epoch_of(plan, epoch)
        assert len(batches) == plan.num_batches == -(-count // 8)
        assert sorted(np.concatenate(batches)) == list(range(count))
        # With one atom of padding.
        assert (sums(batches, sizes) + np.array([1, 0]) <= shapes).all()
        assert {tuple(shape) for shape in shapes} <= set(map(tuple, plan.shapes))


def test_epoch_that_never_fits_falls_back_to_the_fixed_grouping(monkeypatch):
    sizes = log_sizes(104)
    plan = Plan(sizes, 8, shuffle=True, seed=5)
    fixed = sorted(b.tolist() for b in epoch_of(Plan(sizes, 8, shuffle=False))[0])
    balanced = planning.balanced_batches
    bad = np.argsort(-sizes[:, 0]).reshape(-1, 8)
    assert (sums(bad, sizes) > plan.shapes[-1]).any()
    monkeypatch.setattr(
        planning, "balanced_batches", lambda *a: bad if a[2] else balanced(*a)
    )
    drawn = [b.tolist() for b in epoch_of(plan)[0]]
    assert sorted(drawn) == fixed
    assert drawn != fixed


@pytest.mark.parametrize("shuffle", [False, True])
def test_windows_are_alike(shuffle):
    """Each has one structure of each stretch of the order by size."""
    sizes = log_sizes(10_007)
    plan = Plan(sizes, 16, shuffle, seed=1)
    *_, members = plan.deal(0)
    assert len(members) == plan.num_windows == 10
    assert sorted(members[members >= 0]) == list(range(10_007))
    totals = np.array([sizes[row[row >= 0]].sum(axis=0) for row in members])
    assert (totals.max(axis=0) < 1.03 * totals.mean(axis=0)).all()
    assert (members == plan.deal(0)[2]).all()
    assert (members == plan.deal(1)[2]).all() != shuffle
    padding = plan.padding()
    assert max(padding.atoms, padding.edges) < 0.10
    assert len(padding.shapes) <= 4


def test_batch_that_no_shape_holds_gets_a_larger_one():
    sizes = log_sizes(3000)
    plan = Plan(sizes, 16, shuffle=True, seed=0)
    atoms, edges = plan.shapes[-1]
    needed = np.array([[atoms, edges], [atoms + 1, 1], [1, 1.3 * edges]], int)
    shapes = plan.fit(needed)
    # 1.1 and 1.1^3, of both.
    for row, growth in zip(shapes, (1.0, 1.1, 1.331), strict=True):
        np.testing.assert_allclose(row, growth * plan.shapes[-1], atol=1)
    assert (plan.fit(np.ones((1, 2), int)) == plan.shapes[0]).all()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(processes):
    sizes = log_sizes(100)
    alone = Plan(sizes, 8, shuffle=True, seed=5)
    plans = [Plan(sizes, 8, True, 5, (rank, processes)) for rank in range(processes)]
    assert len({str(plan.shapes) for plan in plans}) == 1
    seen = []
    for epoch in range(40):
        whole, _ = epoch_of(alone, epoch)
        parts = [epoch_of(plan, epoch) for plan in plans]
        # The last batch has 4 structures, so that a process may have none.
        for batch, *own in zip(whole, *(batches for batches, _ in parts), strict=True):
            assert sorted(np.concatenate(own)) == sorted(batch)
        needed = np.stack([sums(batches, sizes) for batches, _ in parts])
        for row, (_, shapes) in zip(needed, parts, strict=True):
            assert (row + np.array([1, 0]) <= shapes).all()
            assert (shapes <= plans[0].shapes[-1]).all()
        seen.append(needed)
        largest = sums(
            [batch[sizes[batch].argmax(axis=0)][:1] for batch in whole], sizes
        )
        # No process waits long for another, but where one structure is larger.
        fair = np.maximum(needed.mean(axis=0), largest)
        assert np.mean(needed.max(axis=0) / fair) < 1.25
    seen = np.concatenate(seen, axis=1)
    # Nearly all parts fit the shapes beside that of a whole batch.
    assert (seen + np.array([1, 0]) <= plans[0].shapes[-2]).all(axis=2).mean() > 0.98


def test_what_cannot_be_shared():
    class Two:
        rank, size = 0, 2

    with pytest.raises(TypeError, match=r"`share` is a cluster.*Received: 2"):
        rank_and_size(2, 8, False, None)
    with pytest.raises(ValueError, match="must shuffle alike"):
        rank_and_size(Two(), 8, True, None)
    with pytest.raises(ValueError, match="Received: 1 for 2 processes"):
        rank_and_size(Two(), 1, False, None)
    assert rank_and_size(Two(), 8, False, None) == (0, 2)
