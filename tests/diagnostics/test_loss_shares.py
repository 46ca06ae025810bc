"""Shares of losses, against loops over structures and atoms."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from ase.data import chemical_symbols

import tfpes
from tfpes.diagnostics.loss_shares import loss_shares, scale_of_each_law

BINS = ((1, 1), (2, 4), (5, 16), (17, 64), (65, 256), (257, 1024))
MEAN, VARIANCE = {1: -3.0, 8: -400.0, 29: -50.0}, {1: 0.01, 8: 0.2, 29: 0.05}
SCALE = {1: 0.5, 8: 2.0, 29: 1.0}
ENERGY_LOSSES = ["raw", "per atom", "per √N", "independent", "collective"]
FORCE_LOSSES = ["raw", "standardized", "per structure"]


@pytest.fixture(scope="module")
def given():
    """Statistics that are known, of a collective law."""
    return tfpes.layers.PESNormalization(
        energy_mean=MEAN,
        energy_variance=VARIANCE,
        collective_variance=0.03,
        force_scale=SCALE,
        size_law="collective",
        isolated_atoms="include",
    )


@pytest.fixture(scope="module")
def small(simulated):
    rng = np.random.default_rng(5)
    composition = [{1: 2, 8: 1}, {29: 20}, {29: 1}, {8: 2}, {1: 40, 29: 60}, {1: 9}]
    atoms = sum(sum(row.values()) for row in composition)
    forces = rng.normal(size=(atoms, 3))
    forces[::7, 1] = np.nan
    forces[24:26] = np.nan
    energy = rng.normal(size=6) * 5 - 300.0
    energy[3] = np.nan
    return simulated(composition, energy, forces)


def add(shares, size, number, value):
    low, high = next(pair for pair in BINS if pair[0] <= size <= pair[1])
    name = str(low) if low == high else f"{low}-{high}"
    shares["by_size"][name] = shares["by_size"].get(name, 0.0) + value
    symbol = chemical_symbols[number]
    shares["by_element"][symbol] = shares["by_element"].get(symbol, 0.0) + value


def assert_shares(found, expected):
    for group, values in expected.items():
        total = sum(values.values())
        for name, value in values.items():
            assert found[group][name] == pytest.approx(value / total, rel=1e-6)
        assert sum(found[group].values()) == pytest.approx(1.0, rel=1e-12)


def atoms_of(structures):
    for s in range(len(structures)):
        first, last = structures.atom_offsets[s : s + 2]
        for i in range(first, last):
            yield s, i, int(structures.atomic_numbers[i]), int(last - first)


@pytest.mark.parametrize("name", ENERGY_LOSSES)
def test_energy_shares_against_loops(name, given, small):
    part = loss_shares(small, given)["energy"]
    assert list(part["losses"]) == ENERGY_LOSSES
    present = small[np.isfinite(small.energy)]
    counts = tfpes.evaluation.compositions(present)
    other = scale_of_each_law(given, counts, present.energy)["independent"]
    count, loss, gradient = ({"by_size": {}, "by_element": {}} for _ in range(3))
    for s, _, number, size in atoms_of(present):
        each = [z for t, _, z, _ in atoms_of(present) if t == s]
        error = present.energy[s] - sum(MEAN[z] for z in each)
        own = sum(VARIANCE[z] for z in each) + 0.03 * size**2
        weight = {
            "raw": 1.0,
            "per atom": 1 / size**2,
            "per √N": 1 / size,
            "independent": 1 / other[s] ** 2,
            "collective": 1 / own,
        }[name]
        add(count, size, number, 1 / size)
        add(loss, size, number, weight * error**2 / size)
        add(gradient, size, number, (weight * error) ** 2 * own / size)
    assert_shares(part["count"], count)
    assert_shares(part["losses"][name]["loss"], loss)
    assert_shares(part["losses"][name]["gradient"], gradient)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORCE_LOSSES)
def test_force_shares_against_the_loss_itself(name, given, small):
    # The share of a group is the loss with the labels of the others removed.
    part = loss_shares(small, given)["forces"]
    assert list(part["losses"]) == FORCE_LOSSES
    average = "structures" if name == "per structure" else "atoms"
    loss = tfpes.losses.ForceLoss(given, average=average, reduction="sum")
    index = small.structure_index
    target = tfpes.targets.atom_target(small.forces, small.atomic_numbers, index)
    expected, gradient = ({"by_size": {}, "by_element": {}} for _ in range(2))
    pred = tf.zeros(small.forces.shape, tf.float64)
    for _, i, number, size in atoms_of(small):
        weight = np.zeros(len(index))
        weight[i] = 1.0
        with tf.GradientTape() as tape:
            tape.watch(pred)
            if name == "raw":
                label = np.nan_to_num(small.forces[i]).astype(float)
                value = tf.reduce_sum((pred[i] - label) ** 2)
            else:
                value = loss(target, pred, weight)
        pull = SCALE[number] * tape.gradient(value, pred).numpy()[i]
        add(expected, size, number, float(value))
        add(gradient, size, number, np.sum(pull**2))
    assert_shares(part["losses"][name]["loss"], expected)
    assert_shares(part["losses"][name]["gradient"], gradient)


def test_shares_follow_the_size_law_that_labels_are_drawn_from(simulated):
    rng = np.random.default_rng(0)
    size = rng.choice([4, 16, 64], 6000)
    energy = rng.normal(size=6000) * np.sqrt(0.02 * size)
    structures = simulated([{1: n} for n in size], energy)
    norm = tfpes.layers.PESNormalization(
        energy_mean={1: 0.0}, energy_variance={1: 0.02}
    )
    part = loss_shares(structures, norm)["energy"]
    bins = ("2-4", "5-16", "17-64")
    # With w ~ N^-p and ΔE² ~ N: loss ~ N^(1-p), squared gradient ~ N^(2-2p).
    for name, power in (("raw", 0), ("per atom", 2), ("per √N", 1), ("independent", 1)):
        for kind, exponent in (("loss", 1 - power), ("gradient", 2 - 2 * power)):
            shares = np.array([4.0, 16.0, 64.0]) ** exponent
            found = part["losses"][name][kind]["by_size"]
            # Means of some 2000 squared normal numbers: √(2/2000) = 3 %.
            np.testing.assert_allclose(
                [found[b] for b in bins], shares / shares.sum(), rtol=0.1
            )


def test_own_law_is_not_refitted(given, small):
    small = small[np.isfinite(small.energy)]
    counts = tfpes.evaluation.compositions(small)
    scales = scale_of_each_law(given, counts, small.energy)
    np.testing.assert_array_equal(scales["collective"], given.energy_scale(counts))
    assert not np.allclose(scales["independent"], scales["collective"])


def test_isolated_atoms_are_left_out_as_by_adapt(small):
    norm = tfpes.layers.PESNormalization(energy_variance=VARIANCE, force_scale=SCALE)
    assert "1" not in loss_shares(small, norm)["energy"]["count"]["by_size"]


def test_missing_labels(given, small):
    no_forces = dataclasses.replace(small, forces=small.forces * np.nan)
    assert list(loss_shares(no_forces, given)) == ["energy"]
    no_energy = dataclasses.replace(small, energy=small.energy * np.nan)
    assert list(loss_shares(no_energy, given)) == ["forces"]
    neither = dataclasses.replace(no_energy, forces=small.forces * np.nan)
    with pytest.raises(ValueError, match="needs energies or forces"):
        loss_shares(neither, given)


def test_statistics_are_needed(small):
    norm = tfpes.layers.PESNormalization(force_scale=SCALE)
    with pytest.raises(RuntimeError, match="without any of the key 'energy'"):
        loss_shares(small, norm)
