import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.statistics import AtomicTable


def draw(seed, atoms=60):
    generator = np.random.default_rng(seed)
    number = generator.integers(0, 5, atoms)
    forces = generator.normal(size=(atoms, 3)) ** 5
    forces[generator.random(atoms) < 0.2] = np.nan
    forces[generator.random((atoms, 3)) < 0.1] = np.nan
    weights = generator.choice([0.0, 0.5, 2.0], atoms)
    return number, forces, weights, np.arange(atoms) // 5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 12), max_size=3), st.booleans())
def test_sums_whatever_the_batches(seed, cuts, weighted):
    number, forces, weights, index = draw(seed)
    used = weights if weighted else np.ones_like(weights)
    pieces, merged = AtomicTable(), AtomicTable()
    order = np.random.default_rng(seed).permutation(12)  # of structures
    for part in np.split(order, sorted(cuts)):
        piece = np.flatnonzero(np.isin(index, part))
        weight = weights[piece] if weighted else None
        arguments = (number[piece], forces[piece], weight, index[piece])
        pieces.update(*arguments)
        shard = AtomicTable()
        shard.update(*arguments)
        merged.merge(shard)
    for z in range(1, 5):
        mine = (number == z) & (used > 0)
        for table in (pieces, merged):
            present = ~np.isnan(forces[mine])
            squares = np.where(present, forces[mine], 0.0) ** 2
            labels = present.sum(axis=1)
            components = table.number("components")[z]
            np.testing.assert_allclose(components, used[mine] @ labels, 1e-12)
            least = 2.0**-8
            large = (np.abs(np.where(present, forces[mine], 0.0)) >= least).sum(axis=1)
            np.testing.assert_allclose(
                table.number("components", least)[z], used[mine] @ large, 1e-12
            )
            held = [
                np.average(used[mine][here], weights=labels[here])
                for here in (index[mine] == s for s in range(12))
                if labels[here].any()
            ]
            np.testing.assert_allclose(
                table.number("structures")[z], np.sum(held), 1e-12
            )
            np.testing.assert_allclose(
                table.squares[z], used[mine] @ squares.sum(axis=1), 1e-12
            )
            np.testing.assert_allclose(
                table.number("atom_components")[z], used[mine] @ labels, 1e-12
            )
            assert table.atoms[z] == np.count_nonzero(present.any(axis=1))
            assert table.missing[z] == np.count_nonzero(~present.any(axis=1))
            largest = np.nanmax(np.abs(forces[mine]), initial=0.0)
            assert table.largest[z] == largest
    assert not pieces.components[0].any()


def test_float32_forces_are_summed_in_float64():
    table = AtomicTable()
    forces = np.full((100_000, 3), 0.1, np.float32)
    table.update(np.ones(100_000, np.int32), forces)
    exact = 300_000 * float(np.float32(0.1)) ** 2
    assert table.squares[1] == pytest.approx(exact, rel=1e-11)
    assert table.atoms[1] == 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([119], np.zeros((1, 3))), "whole numbers from 0.*119 for atom 0"),
        (([-1], np.zeros((1, 3))), "whole numbers from 0.*-1 for atom 0"),
        (([1.5], np.zeros((1, 3))), "whole numbers from 0.*1.5"),
        (([np.nan], np.zeros((1, 3))), "whole numbers from 0.*nan"),
        (([1], [[0.0, np.inf, 0.0]]), "`forces` must be finite"),
        (([1], np.zeros(3)), r"Received: shapes \(1,\), \(1,\) and \(3,\)"),
        (([1], np.zeros((1, 3)), None, [0, 0]), r"shapes \(1,\), \(2,\) and"),
        (([1], np.zeros((1, 3)), [-1.0]), "`weights` must be finite"),
        (([1], np.zeros((1, 3)), [np.nan]), "`weights` must be finite"),
    ],
)
def test_bad_batches_change_nothing(arguments, message):
    table = AtomicTable()
    with pytest.raises(ValueError, match=message):
        table.update(*arguments)
    assert not table.components.any()


def test_states():
    table = AtomicTable()
    table.update(*draw(0))
    state = table.state()
    loaded = AtomicTable.from_state(state)
    for name, array in loaded.state().items():
        np.testing.assert_array_equal(array, state[name])
    for name, value, message in (
        ("largest", np.zeros(3), "'largest' has shape"),
        ("largest", np.full(119, -1.0), "'largest' holds impossible"),
        ("components_bin", np.array([10**9]), "'components' do not fit their bins"),
        ("version", np.array(99), "of version 99"),
    ):
        with pytest.raises(ValueError, match=message):
            AtomicTable.from_state({**state, name: value})
    with pytest.raises(TypeError, match=r"takes an `AtomicTable`\. Received: int"):
        table.merge(3)
