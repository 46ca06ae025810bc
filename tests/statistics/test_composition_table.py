from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.statistics import CompositionTable
from tfpes.statistics.tables import rows, table_part


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


def assert_same(a, b):
    for isolated in (False, True):
        left, right = a.rows(isolated=isolated), b.rows(isolated=isolated)
        np.testing.assert_array_equal(left.dense(), right.dense())
        np.testing.assert_allclose(left.weight, right.weight, rtol=1e-12)
        np.testing.assert_allclose(left.mean, right.mean, rtol=1e-12)
        scale = left.squared_deviations.max(initial=0.0)
        np.testing.assert_allclose(
            left.squared_deviations, right.squared_deviations, 1e-12, 1e-13 * scale
        )
        np.testing.assert_array_equal(left.lowest, right.lowest)
        np.testing.assert_array_equal(left.highest, right.highest)
    assert a.counts_seen == b.counts_seen
    assert a.structures == b.structures


@settings(max_examples=60, deadline=None)
@given(batches())
def test_order_batching_and_sharding_do_not_matter(data):
    composition, values, weights, cuts, generator = data
    whole = CompositionTable()
    whole.update(composition, values, weights)

    order = generator.permutation(len(values))
    pieces, merged = CompositionTable(), CompositionTable()
    for piece in np.split(order, cuts):
        pieces.update(composition[piece], values[piece], weights[piece])
        len(pieces)  # merges what waits: a batch at a time
        shard = CompositionTable()
        shard.update(composition[piece], values[piece], weights[piece])
        merged.merge(shard)
    assert_same(whole, pieces)
    assert_same(whole, merged)


@settings(max_examples=30, deadline=None)
@given(batches())
def test_moments_are_those_of_exact_arithmetic(data):
    composition, values, weights, _, _ = data
    table = CompositionTable()
    table.update(composition, values, weights)
    block = table.rows()
    used = ~np.isnan(values) & (weights > 0)
    assert len(block) == len(np.unique(composition[used], axis=0))
    for row, expected in enumerate(block.dense()):
        mine = used & (composition == expected).all(axis=1)
        value = [Fraction(v) for v in values[mine]]
        weight = [Fraction(w) for w in weights[mine]]
        mean = sum(w * v for w, v in zip(weight, value, strict=True)) / sum(weight)
        high, low = Fraction(block.mean[row]), Fraction(block.mean_low[row])
        assert abs(high + low - mean) < 1e-14
        for power, index in ((2, rows.M2), (3, rows.M3), (4, rows.M4)):
            exact = sum(
                w * (v - mean) ** power for w, v in zip(weight, value, strict=True)
            )
            assert block.moments[index, row] == pytest.approx(
                float(exact), rel=1e-12, abs=1e-12
            )


def test_duplicates_are_weights(dense):
    composition = dense([{1: 2, 8: 1}, {1: 2, 8: 1}, {6: 1}])
    values = np.array([-14.1, -14.4, -38.0])
    twice, weighted = CompositionTable(), CompositionTable()
    for _ in range(2):
        twice.update(composition, values)
    weighted.update(composition, values, np.full(3, 2.0))
    np.testing.assert_allclose(twice.rows().moments, weighted.rows().moments, 1e-14)


def test_left_out_and_counted(dense):
    table = CompositionTable()
    table.update(
        dense([{1: 2}, {1: 2}, {}, {1: 3}, {8: 1}]),
        [1.0, np.nan, 2.0, 3.0, 4.0],
        [1.0, 1.0, 1.0, 0.0, 1.0],
    )
    assert table.counts_seen == {
        "received": 5,
        "missing": 1,
        "weightless": 1,
        "empty": 1,
    }
    assert (len(table), table.structures, table.isolated_structures) == (1, 1, 1)
    assert table.structures_per_element()[1] == 1
    assert table.structures_per_element(isolated=None)[8] == 1


def test_isolated_atoms_are_kept_apart(dense):
    composition = dense([{29: 1}, {29: 1}, {29: 2}])
    table = CompositionTable()
    table.update(composition, [0.5, -3.5, -7.0], isolated=[True, False, False])
    assert table.rows(isolated=True).mean.tolist() == [0.5]
    assert sorted(table.rows().mean) == [-7.0, -3.5]
    assert len(table.rows(isolated=None)) == 2


def test_empty_batch():
    table = CompositionTable()
    table.update(np.zeros((0, 119)), np.zeros(0))
    assert len(table) == 0


@pytest.mark.parametrize("count", [1, 255, 65536, 100000, 2**32 - 1])
def test_large_counts(dense, count):
    table = CompositionTable()
    table.update(dense([{118: count}]), [1.0], isolated=[False])
    assert table.rows().composition(0) == {118: count}


def test_hash_collisions_are_found(dense, monkeypatch):
    seeds = []
    true_hash = rows._hash

    def colliding(block, seed):
        seeds.append(seed)
        if seed < 2:
            return np.zeros(len(block), np.uint64)
        return true_hash(block, seed)

    monkeypatch.setattr(rows, "_hash", colliding)
    table = CompositionTable()
    table.update(dense([{1: 2}, {1: 3}, {1: 2}, {8: 2}]), np.arange(4.0))
    assert len(table) == 3
    assert 2 in seeds


def test_many_small_batches_are_merged_now_and_then(dense, monkeypatch):
    monkeypatch.setattr(table_part, "PENDING_ROWS", 10)
    generator = np.random.default_rng(0)
    small, whole = CompositionTable(), CompositionTable()
    composition = dense([{1: int(n)} for n in generator.integers(2, 30, 500)])
    values = generator.normal(size=500)
    for start in range(0, 500, 3):
        piece = slice(start, start + 3)
        small.update(composition[piece], values[piece])
    whole.update(composition, values)
    assert_same(small, whole)


@pytest.mark.parametrize("keep_structures", [False, True])
def test_save_and_load(dense, tmp_path, keep_structures):
    table = CompositionTable(keep_structures=keep_structures)
    table.update(dense([{1: 2}, {1: 2}, {8: 1}]), [1.0, 2.0, 3.0])
    table.save(tmp_path / "table.npz")
    loaded = CompositionTable.load(tmp_path / "table.npz")
    assert_same(table, loaded)
    for t in (table, loaded):  # and both go on
        t.update(dense([{1: 2}, {3: 4}]), [5.0, 6.0])
    assert_same(table, loaded)
    if keep_structures:
        assert len(loaded.structure_rows()) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["table.npz"]


def test_state_is_plain_and_apart(dense):
    table = CompositionTable()
    table.update(dense([{1: 2}]), [1.0])
    state = table.state()
    assert all(array.dtype != object for array in state.values())
    state["bulk_moments"][:] = 7
    assert table.rows().mean.tolist() == [1.0]


def test_merge_leaves_the_other_alone(dense):
    one, two = CompositionTable(), CompositionTable()
    one.update(dense([{1: 2}]), [1.0])
    two.update(dense([{1: 2}]), [3.0])
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
    table = CompositionTable()
    table.update(WATER, [1.0, 2.0])
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


def test_bad_files(tmp_path):
    path = tmp_path / "table.npz"
    with pytest.raises(FileNotFoundError):
        CompositionTable.load(path)
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="npz archive of plain arrays"):
        CompositionTable.load(path)
    table = CompositionTable()
    table.update(WATER, [1.0, 2.0])
    table.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="npz archive of plain arrays"):
        CompositionTable.load(path)
    np.savez(path, kind=np.array({"a": 1}, object))
    with pytest.raises(ValueError, match="npz archive of plain arrays"):
        CompositionTable.load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("version", np.array(0), "version 0"),
        ("kind", np.array("AtomicTable"), "kind 'AtomicTable'"),
        ("bulk_start", None, "without bulk_start"),
        ("bulk_moments", np.zeros((8, 7)), "do not fit"),
        ("bulk_start", np.array([0, 1, 1]), "do not fit"),
        ("bulk_moments", np.full((8, 1), np.nan), "impossible values"),
        ("bulk_element", np.array([0, 1], np.uint8), "impossible values"),
        ("counters", np.zeros(2), "counters of shape"),
    ],
)
def test_bad_states(name, value, message):
    table = CompositionTable()
    table.update(WATER, [1.0, 2.0])
    state = table.state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(ValueError, match=message):
        CompositionTable.from_state(state)
