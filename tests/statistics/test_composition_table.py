from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.statistics import CompositionTable
from tfpes.statistics.tables import compositions, rows


@st.composite
def batches(draw):
    """Structures of few compositions, with weights, and a way to cut them."""
    number = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = np.zeros((5, 119))
    for kind in kinds:
        chosen = generator.choice(np.arange(1, 119), 3, replace=False)
        kind[chosen] = generator.integers(1, 50, 3)
    composition = kinds[generator.integers(0, 5, number)]
    offset = draw(st.sampled_from([0.0, -14.0, -6e6]))
    values = offset + generator.normal(size=number)
    values[generator.random(number) < 0.1] = np.nan
    weights = generator.choice([0.0, 0.5, 1.0, 3.0], number)
    cuts = sorted(draw(st.lists(st.integers(0, number), max_size=4)))
    return composition, values, weights, cuts, generator


def filled(composition, values, weights=None, **options):
    table = CompositionTable(**options)
    table.update(composition, values, weights)
    return table


def assert_same(a, b):
    for isolated in (False, True):
        left, right = a.rows(isolated=isolated), b.rows(isolated=isolated)
        assert (left.composition != right.composition).nnz == 0
        np.testing.assert_array_equal(left.lowest, right.lowest)
        np.testing.assert_array_equal(left.highest, right.highest)
        np.testing.assert_array_equal(left.number, right.number)
        np.testing.assert_allclose(left.weight, right.weight, rtol=1e-12)
        np.testing.assert_allclose(left.mean, right.mean, rtol=1e-12)
        # A mean near -6e6 is stored to 1e-9: so far are deviations of 1 known.
        rounding = 1e-12 + 8 * np.finfo(float).eps * np.abs(left.mean)
        largest = left.squared_deviations.max(initial=0.0)
        difference = np.abs(left.squared_deviations - right.squared_deviations)
        assert (difference <= rounding * (left.squared_deviations + largest)).all()
    assert a.counts_seen == b.counts_seen
    assert a.structures == b.structures


@settings(max_examples=60, deadline=None)
@given(batches())
def test_order_batching_and_sharding_do_not_matter(data):
    composition, values, weights, cuts, generator = data
    whole = filled(composition, values, weights)
    order = generator.permutation(len(values))
    pieces, merged = CompositionTable(), CompositionTable()
    for piece in np.split(order, cuts):
        pieces.update(composition[piece], values[piece], weights[piece])
        len(pieces)  # merges what waits: a batch at a time
        merged.merge(filled(composition[piece], values[piece], weights[piece]))
    assert_same(whole, pieces)
    assert_same(whole, merged)


@settings(max_examples=30, deadline=None)
@given(batches())
def test_moments_are_those_of_exact_arithmetic(data):
    composition, values, weights, _, _ = data
    block = filled(composition, values, weights).rows()
    used = ~np.isnan(values) & (weights > 0)
    assert len(block) == len(np.unique(composition[used], axis=0))
    for row, expected in enumerate(block.composition.toarray()):
        mine = used & (composition == expected).all(axis=1)
        value = [Fraction(v) for v in values[mine]]
        weight = [Fraction(w) for w in weights[mine]]
        mean = sum(w * v for w, v in zip(weight, value, strict=True)) / sum(weight)
        assert block.mean[row] == pytest.approx(float(mean), rel=1e-15)
        moments = block.squared_deviations, block.third, block.fourth
        for power, found in zip((2, 3, 4), moments, strict=True):
            exact = sum(
                w * (v - mean) ** power for w, v in zip(weight, value, strict=True)
            )
            assert found[row] == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


def test_duplicates_are_weights(dense):
    composition = dense([{1: 2, 8: 1}, {1: 2, 8: 1}, {6: 1}])
    values = np.array([-14.1, -14.4, -38.0])
    twice = filled(composition, values)
    twice.update(composition, values)
    weighted = filled(composition, values, np.full(3, 2.0))
    for one, other in zip(
        twice.rows().moments()[:-1], weighted.rows().moments()[:-1], strict=True
    ):
        np.testing.assert_allclose(one, other, 1e-14)
    assert (twice.structures, weighted.structures) == (4, 2)


def test_left_out_and_counted(dense):
    table = filled(
        dense([{1: 2}, {1: 2}, {}, {1: 3}, {8: 1}]),
        [1.0, np.nan, 2.0, 3.0, 4.0],
        [1.0, 1.0, 1.0, 0.0, 1.0],
    )
    seen = {"received": 5, "missing": 1, "weightless": 1, "empty": 1}
    assert table.counts_seen == seen
    assert (len(table), table.structures, table.isolated_structures) == (1, 1, 1)
    assert table.rows().structures_per_element()[1] == 1
    assert table.rows(isolated=None).structures_per_element()[8] == 1


def test_isolated_atoms_are_kept_apart(dense):
    composition = dense([{29: 1}, {29: 1}, {29: 2}])
    table = CompositionTable()
    table.update(composition, [0.5, -3.5, -7.0], isolated=[True, False, False])
    assert table.rows(isolated=True).mean.tolist() == [0.5]
    assert sorted(table.rows().mean) == [-7.0, -3.5]
    assert len(table.rows(isolated=None)) == 2


def test_empty_batch():
    assert len(filled(np.zeros((0, 119)), np.zeros(0))) == 0


@pytest.mark.parametrize("count", [1, 255, 65536, 100000, 2**32 - 1])
def test_large_counts(dense, count):
    table = CompositionTable()
    table.update(dense([{118: count}]), [1.0], isolated=[False])
    assert table.rows().composition_of(0) == {118: count}
    assert table.rows().size.tolist() == [count]


def test_hash_collisions_are_found(dense, monkeypatch):
    seeds = []
    true_hash = rows._hash

    def colliding(block, seed):
        seeds.append(seed)
        if seed < 2:
            return np.zeros(len(block), np.uint64)
        return true_hash(block, seed)

    monkeypatch.setattr(rows, "_hash", colliding)
    table = filled(dense([{1: 2}, {1: 3}, {1: 2}, {8: 2}]), np.arange(4.0))
    assert len(table) == 3
    assert 2 in seeds


def test_many_small_batches_are_merged_now_and_then(dense, monkeypatch):
    monkeypatch.setattr(compositions, "_PENDING_ROWS", 10)
    generator = np.random.default_rng(0)
    composition = dense([{1: int(n)} for n in generator.integers(2, 30, 500)])
    values = generator.normal(size=500)
    small = CompositionTable()
    for start in range(0, 500, 3):
        piece = slice(start, start + 3)
        small.update(composition[piece], values[piece])
    assert_same(small, filled(composition, values))


@pytest.mark.parametrize("keep_structures", [False, True])
def test_a_state_goes_on(dense, keep_structures):
    composition = dense([{1: 2}, {1: 2}, {8: 1}])
    table = filled(composition, [1.0, 2.0, 3.0], keep_structures=keep_structures)
    state = table.state()
    assert all(array.dtype.kind in "biuf" for array in state.values())
    loaded = CompositionTable.from_state(state)
    for array in state.values():
        array[...] = 7
    for t in (table, loaded):
        t.update(dense([{1: 2}, {3: 4}]), [5.0, 6.0])
    assert_same(table, loaded)
    if keep_structures:
        assert len(loaded.structure_rows()) == 4


def test_arrays_may_be_filled_again():
    values, weights = np.array([1.0, 2.0]), np.ones(2)
    table = CompositionTable()
    table.update(composition := WATER.copy(), values, weights)
    for array in (composition, values, weights):
        array[...] = 7
    assert_same(table, filled(WATER, [1.0, 2.0]))


def test_merge_leaves_the_other_alone(dense):
    one, two = (filled(dense([{1: 2}]), [value]) for value in (1.0, 3.0))
    one.merge(two)
    one.update(dense([{1: 2}]), [3.0])
    assert two.rows().weight.tolist() == [1.0]
    assert one.rows().weight.tolist() == [3.0]
    one.merge(one)
    assert one.rows().weight.tolist() == [6.0]
    assert one.structures == 6


WATER = np.zeros((2, 119))
WATER[:, [1, 8]] = 2, 1


def _changed(index, value):
    array = WATER.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WATER, [1.0, np.inf]), "must be finite, or NaN.*inf for structure 1"),
        ((WATER, [-np.inf, 0.0]), "-inf for structure 0"),
        ((WATER, [1.0, 2.0], [1.0, -1.0]), "`weights` must be finite.*-1.0 at index 1"),
        ((WATER, [1.0, 2.0], [np.nan, 1.0]), "`weights` must be finite.*nan"),
        ((WATER, [1.0, 2.0], [1.0]), r"`weights` must have shape \(2,\)"),
        ((_changed((1, 3), -1), [1.0, 2.0]), "whole numbers.*-1.0 for atomic number 3"),
        ((_changed((0, 1), 1.5), [1.0, 2.0]), "whole numbers.*1.5"),
        ((_changed((0, 1), np.nan), [1.0, 2.0]), "whole numbers.*nan"),
        ((_changed((0, 1), 2.0**32), [1.0, 2.0]), "whole numbers"),
        ((_changed((0, 0), 1), [1.0, 2.0]), "Column 0"),
        ((WATER[:, :100], [1.0, 2.0]), r"shape \(structures, 119\).*\(2, 100\)"),
        ((WATER, [1.0]), "one number for each row"),
        ((WATER, [1.0, 2.0], None, [1, 0]), "`isolated` must be boolean"),
    ],
)
def test_bad_batches_change_nothing(arguments, message):
    table = filled(WATER, [1.0, 2.0])
    before = table.state()
    with pytest.raises(ValueError, match=message):
        table.update(*arguments)
    for name, array in table.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_bad_merges():
    table = CompositionTable()
    with pytest.raises(TypeError, match=r"takes a `CompositionTable`\. Received: int"):
        table.merge(3)
    with pytest.raises(ValueError, match="both keep their structures"):
        table.merge(CompositionTable(keep_structures=True))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("version", np.array(0), "of version 0"),
        ("bulk_start", None, "without bulk_start"),
        ("bulk_mean", np.zeros(7), "do not fit"),
        ("bulk_start", np.array([0, 1, 1]), "do not fit"),
        ("bulk_start", np.array([0, 9]), "do not fit"),
        ("bulk_element", np.array([1, 119], np.uint8), "do not fit"),
        ("bulk_mean", np.full(1, np.nan), "impossible values"),
        ("bulk_element", np.array([0, 1], np.uint8), "impossible values"),
        ("counters", np.zeros(2), "counters of shape"),
    ],
)
def test_bad_states(name, value, message):
    state = filled(WATER, [1.0, 2.0]).state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(ValueError, match=message):
        CompositionTable.from_state(state)
