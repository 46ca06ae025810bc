"""Sufficient statistics do not depend on how the data came in batches."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.layers import PESNormalization, accumulator
from tfpes.layers.accumulator import Accumulator
from tfpes.targets import atom_target, structure_target


def draw(seed, structures=25):
    """Return (composition, energy, weight, numbers, forces, weights of atoms)."""
    rng = np.random.default_rng(seed)
    composition = np.zeros((structures, 119))
    composition[:, [1, 6, 8]] = rng.integers(0, 3, (structures, 3))
    composition[:, 1] += 1
    composition[:3, [1, 6, 8]] = [1, 0, 0]  # isolated atoms
    energy = composition @ rng.normal(-1e3, 1, 119) + rng.normal(size=structures)
    energy[rng.integers(0, structures, 3)] = np.nan
    weight = rng.integers(0, 4, structures) / 2
    atoms = []
    for row in composition.astype(int):
        numbers = np.repeat(np.arange(119), row)
        forces = rng.normal(size=(len(numbers), 3))
        forces[rng.random(forces.shape) < 0.1] = np.nan
        atoms.append((numbers, forces, rng.integers(0, 3, len(numbers)) / 2))
    return composition, energy, weight, atoms


def batch(data, chosen, padding=0, weighted=False):
    """Return a batch of the chosen structures, with padding after each of them."""
    composition, energy, weight, atoms = data
    length = len(chosen) * (1 + padding)
    rows, values, weights = np.zeros((length, 119)), np.full(length, np.nan), []
    numbers, forces, index, atom_weights = [], [np.zeros((0, 3))], [], []
    for place, s in enumerate(chosen):
        place *= 1 + padding
        rows[place], values[place] = composition[s], energy[s]
        weights += [weight[s]] + [1.0] * padding
        numbers += [*atoms[s][0], *[0] * padding]
        forces += [atoms[s][1], np.full((padding, 3), 7.0)]
        atom_weights += [*atoms[s][2], *[1.0] * padding]
        index += [place] * (len(atoms[s][0]) + padding)
    targets = {
        "energy": structure_target(values, rows),
        "forces": atom_target(np.concatenate(forces), numbers, index),
    }
    if not weighted:
        return None, targets
    weights = {"energy": np.array(weights), "forces": np.array(atom_weights)}
    return None, targets, weights


def gathered(batches):
    result = Accumulator()
    result.update(batches)
    return result


def assert_same(one, other, rtol=1e-12):
    """Compare everything; moments on the scale of the values they are made of."""
    one, other = one.state(), other.state()
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name.endswith("_moments"):
            # The mean and its rounding error count together; M3 may cancel.
            scale = np.abs(value).max(axis=1, initial=0.0, keepdims=True)
            scale[2] = scale[1] * 1e-3
            np.testing.assert_allclose(
                other[name] / np.where(scale, scale, 1),
                value / np.where(scale, scale, 1),
                atol=1e-11,
                err_msg=name,
            )
        else:
            np.testing.assert_allclose(other[name], value, rtol, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 25), max_size=4),
    shard=st.integers(0, 4),
    padding=st.integers(0, 2),
    weighted=st.booleans(),
    waiting=st.sampled_from([1, 1000, 10**6]),
)
def test_order_batches_shards_and_padding_do_not_matter(
    seed, cuts, shard, padding, weighted, waiting
):
    data = draw(seed)
    order = np.random.default_rng(seed).permutation(25)
    parts = [part for part in np.split(order, sorted(cuts)) if part.size]
    batches = [batch(data, part, padding, weighted) for part in parts]
    expected = gathered([batch(data, np.arange(25), 0, weighted)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulator, "_WAITING_NUMBERS", waiting)
        result = gathered(batches[shard:])
        result.merge(gathered(batches[:shard]))
    assert_same(expected, result)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_are_repetitions(seed):
    composition, energy, weight, atoms = draw(seed)
    # Whole weights, the same for a structure and its atoms.
    times = (2 * weight).astype(int)
    atoms = [(*a[:2], np.full(len(a[0]), t)) for a, t in zip(atoms, times, strict=True)]
    data = composition, energy, times.astype(float), atoms
    weighted = gathered([batch(data, np.arange(25), weighted=True)])
    repeated = gathered([batch(data, np.repeat(np.arange(25), times))])
    ours, theirs = (
        weighted.tables["energies"].rows(),
        repeated.tables["energies"].rows(),
    )
    assert (ours.composition != theirs.composition).nnz == 0
    np.testing.assert_allclose(ours.weight, theirs.weight)
    np.testing.assert_allclose(ours.mean, theirs.mean, 1e-12)
    np.testing.assert_allclose(
        ours.squared_deviations, theirs.squared_deviations, 1e-9, 1e-12
    )
    np.testing.assert_allclose(
        weighted.tables["forces"].structures,
        repeated.tables["forces"].structures,
        1e-12,
    )
    np.testing.assert_allclose(
        weighted.tables["forces"].squares, repeated.tables["forces"].squares, 1e-12
    )


def test_batches_of_different_kinds():
    """Some have forces or weights and some do not, and shapes differ."""
    data = draw(1)
    first, second = batch(data, np.arange(10)), batch(data, np.arange(10, 25))
    expected = gathered([first, second])
    ones = {"energy": np.ones(15), "forces": np.ones(len(second[1]["forces"]))}
    assert_same(gathered([first, (*second, ones)]), expected)
    apart = [
        {key: value} for _, targets in (first, second) for key, value in targets.items()
    ]
    alone = gathered([{"energy": first[1]["energy"]}, *apart[1:]])
    np.testing.assert_array_equal(
        alone.tables["energies"].rows().mean, expected.tables["energies"].rows().mean
    )


def test_arrays_that_are_filled_again():
    data = draw(2)
    parts = [batch(data, np.arange(i, i + 5)) for i in range(0, 25, 5)]
    buffer = np.empty((5, 121))

    def reusing():
        for _, targets in parts:
            buffer[:] = targets["energy"]
            yield {"energy": buffer}

    fresh = gathered([{"energy": targets["energy"]} for _, targets in parts])
    assert_same(gathered(reusing()), fresh)


def test_structures_are_counted_from_the_start_of_their_batch():
    data = draw(3)
    batches = [batch(data, np.arange(10)), batch(data, np.arange(10, 25))]
    layer = PESNormalization()
    layer.adapt(batches)
    before = layer.report
    targets = {key: np.array(value) for key, value in batches[1][1].items()}
    targets["energy"][4, 0] = np.inf
    with pytest.raises(ValueError, match="inf for structure 4"):
        layer.adapt([batches[0], targets])
    targets = {key: np.array(value) for key, value in batches[1][1].items()}
    targets["forces"][7, 1] = -np.inf
    with pytest.raises(ValueError, match=r"-inf.* for atom 7"):
        layer.adapt([batches[0], targets, batches[0]])
    targets["forces"] = np.array(batches[1][1]["forces"])
    targets["forces"][0, 4] = 15
    with pytest.raises(ValueError, match=r"of the batch, 0 to 14\. Received: 0 to 15"):
        layer.adapt([batches[0], targets])
    assert layer.report is before


def test_batches_of_a_dataset():
    data = draw(4)
    batches = [batch(data, np.arange(i, i + 5)) for i in range(0, 25, 5)]
    signature = tf.TensorSpec((None, 121), tf.float64)
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"energy": targets["energy"]} for _, targets in batches),
        output_signature={"energy": signature},
    )
    energies = [{"energy": targets["energy"]} for _, targets in batches]
    assert_same(gathered(dataset), gathered(energies), 0)
