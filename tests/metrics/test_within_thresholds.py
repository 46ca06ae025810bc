import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.metrics import EFwT, MaxForceError

INDEX = np.array([0, 0, 1, 1, 1, 2, 3, 3, 4, 5])
NUMBERS = np.array([1, 29, 29, 1, 1, 29, 1, 1, 29, 0])


def make_batch(seed=0):
    """Return six structures: the fourth without energy, the last is padding."""
    rng = np.random.default_rng(seed)
    counts = tfpes.targets.composition(NUMBERS, INDEX, 6)
    energy = -1e4 + rng.normal(size=6)
    forces = rng.normal(size=(10, 3)).astype(np.float32)
    pred = {
        "energy": energy + rng.uniform(-0.03, 0.03, size=6),
        "forces": forces + rng.uniform(-0.033, 0.033, (10, 3)).astype(np.float32),
    }
    energy[[3, 5]] = np.nan
    forces[0, 1] = np.nan  # one component
    forces[8:] = np.nan  # the fifth has no force at all
    return {
        "energy": tfpes.targets.structure_target(energy, counts),
        "forces": tfpes.targets.atom_target(forces, NUMBERS, INDEX),
    }, pred


def naive(batches, energy_threshold=0.02, force_threshold=0.03):
    """Return the fraction, one structure at a time."""
    right = []
    for true, pred, weights in batches:
        labels, forces = true["energy"].numpy()[:, 0], true["forces"].numpy()[:, :3]
        for s, energy in enumerate(labels):
            error = np.abs(np.float64(pred["forces"]) - np.float64(forces))[s == INDEX]
            error = error[~np.isnan(forces[s == INDEX])]
            if np.isnan(energy) or not len(error):
                continue
            good = abs(float(pred["energy"][s]) - energy) < energy_threshold
            weight = 1.0 if weights is None else weights[s]
            right.append((weight * (good and max(error) < force_threshold), weight))
    return np.divide(*np.sum(right, axis=0))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_against_a_loop(weighted, jit_compile, close):
    metric = EFwT(0.025, 0.032)
    update = metric.update_state
    if jit_compile is not None:
        update = tf.function(update, jit_compile=jit_compile)
    weights = np.array([1.0, 0.5, 2.0, np.nan, 1.5, np.nan]) if weighted else None
    batches = [(*make_batch(seed), weights) for seed in range(6)]
    for batch in batches:
        update(*batch)
    expected = naive(batches, 0.025, 0.032)
    assert 0.1 < expected < 0.9
    close(metric.result(), expected)
    if weighted:
        metric.reset_state()
        for true, pred, weights in batches:
            metric.update_state(true, pred, {"energy": weights})
        close(metric.result(), expected)


def test_each_condition_counts():
    true, pred = make_batch()
    pred = {"energy": true["energy"][:, :1], "forces": true["forces"][:, :3]}
    pred = {key: np.nan_to_num(value.numpy()) for key, value in pred.items()}
    found = []
    for key, row in ((None, 0), ("energy", 1), ("forces", 5)):
        change = {name: value.copy() for name, value in pred.items()}
        if key is not None:
            change[key][row, 0] += 0.05
        metric = EFwT()
        metric.update_state(true, change)
        found.append(float(metric.result()))
    # Three structures count: one has no energy, one no forces, one is padding.
    assert found == [1.0, 2 / 3, 2 / 3]


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_nan_predictions_are_wrong(key):
    true, pred = make_batch()
    pred[key][:] = np.nan
    metric = EFwT(1.0, 1.0)
    metric.update_state(true, pred)
    assert metric.result() == 0.0


def test_serialization(copy_by_config):
    metric = EFwT(0.1, 0.2, name="both")
    copy = copy_by_config(metric)
    assert copy.get_config() == metric.get_config()
    assert (copy.energy_threshold, copy.force_threshold) == (0.1, 0.2)


def test_wrong_use():
    true, pred = make_batch()
    with pytest.raises(TypeError, match=r"dicts with the keys .*`compute_metrics`"):
        EFwT().update_state(true["energy"], pred["energy"])
    with pytest.raises(TypeError, match=r"`y_pred`: \['energy'\]"):
        EFwT().update_state(true, {"energy": pred["energy"]})
    with pytest.raises(ValueError, match=r"must be positive. Received: 0"):
        EFwT(0.0)


# -- the largest force error ----------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_max_force_error(jit_compile, close, copy_by_config):
    metric = MaxForceError()
    update = metric.update_state
    if jit_compile is not None:
        update = tf.function(update, jit_compile=jit_compile)
    largest = 0.0
    for seed in range(4):
        true, pred = make_batch(seed)
        true, pred = true["forces"], pred["forces"]
        error = np.nan_to_num(np.float64(pred) - true.numpy()[:, :3].astype(float))
        largest = max(largest, np.linalg.norm(error, axis=1).max())
        update(true, pred[..., None])
        close(metric.result(), largest, "float32")
    # The largest stays, NaN labels do not show, NaN predictions do.
    small = true.numpy()[:, :3]
    update(true, np.nan_to_num(small)[..., None])
    close(metric.result(), largest, "float32")
    pred[3, 1] = np.nan
    update(true, pred[..., None])
    assert np.isnan(metric.result())
    metric.reset_state()
    assert np.isnan(metric.result())  # 0 would be a perfect model
    assert copy_by_config(metric).get_config() == metric.get_config()


def test_max_force_error_leaves_out_atoms_of_weight_zero(close):
    true, pred = make_batch()
    error = pred["forces"] - true["forces"].numpy()[:, :3]
    norms = np.linalg.norm(np.nan_to_num(np.float64(error)), axis=1)
    weights = np.full(10, 3.0)
    weights[norms.argmax()] = 0.0
    metric = MaxForceError()
    metric.update_state(true["forces"], pred["forces"], weights)
    close(metric.result(), np.sort(norms)[-2], "float32")
