import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.metrics import EnergyMAE, EnergyRMSE, ForceMAE, ForceRMSE

METRICS = (
    EnergyMAE,
    EnergyRMSE,
    lambda **o: EnergyMAE(per_atom=False, **o),
    lambda **o: EnergyRMSE(per_atom=False, **o),
    ForceMAE,
    ForceRMSE,
)


@pytest.fixture(params=METRICS, ids=["mae", "rmse", "MAE", "RMSE", "f-mae", "f-rmse"])
def metric(request):
    return request.param()


def case(metric, seed=0, rows=10):
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 2.0, rows)
    if isinstance(metric, EnergyMAE | EnergyRMSE):
        counts = np.zeros((rows, 119))
        counts[:, [1, 29]] = rng.integers(1, 50, (rows, 2))
        counts[-1] = 0
        energy = -1e5 * counts.sum(axis=1) + rng.normal(size=rows)
        pred = energy + rng.normal(size=rows)
        energy[[1, -1]] = np.nan
        return np.hstack([energy[:, None], counts]), pred, weights
    forces = rng.normal(size=(rows, 3)).astype(np.float32)
    pred = forces + rng.normal(size=(rows, 3)).astype(np.float32)
    forces[1] = np.nan
    forces[2, 0] = np.nan
    forces[-1] = np.nan
    columns = [forces, np.ones((rows, 1)), np.zeros((rows, 1))]
    return np.hstack(columns).astype(np.float32), pred, weights


def naive(metric, batches):
    """Return the metric by one loop over all labels of all batches."""
    squared = isinstance(metric, EnergyRMSE | ForceRMSE)
    total = count = 0.0
    for target, pred, weights in batches:
        weights = np.ones(len(target)) if weights is None else weights
        for row, guess, weight in zip(target, pred, weights, strict=True):
            if isinstance(metric, EnergyMAE | EnergyRMSE):
                unit = row[1:].sum() if metric.per_atom else 1.0
                labels, guess = row[:1], [guess]
            else:
                unit, labels = 1.0, row[:3]
            for label, value in zip(labels, guess, strict=True):
                if not np.isnan(label):
                    error = (float(value) - float(label)) / unit
                    total += weight * (error**2 if squared else abs(error))
                    count += weight
    return np.sqrt(total / count) if squared else total / count


@pytest.mark.parametrize("weighted", [False, True])
def test_one_batch(metric, weighted, close):
    target, pred, weights = case(metric)
    weights = weights if weighted else None
    metric.update_state(target, pred, weights)
    result = metric.result()
    assert result.dtype == tf.float64
    close(result, naive(metric, [(target, pred, weights)]))


@pytest.mark.parametrize("weighted", [False, True])
def test_exact_over_batches(metric, weighted, close):
    # Not a mean of means: batches hold different numbers of labels.
    batches = [case(metric, seed, rows) for seed, rows in ((0, 3), (1, 20), (2, 7))]
    if not weighted:
        batches = [(target, pred, None) for target, pred, _ in batches]
    for batch in batches:
        metric.update_state(*batch)
    close(metric.result(), naive(metric, batches))
    metric.reset_state()
    assert metric.result() == 0.0
    metric.update_state(*batches[1])
    close(metric.result(), naive(metric, batches[1:2]))


def test_last_dimension_of_one(metric, close):
    target, pred, weights = case(metric)
    metric.update_state(target, pred[..., None], weights[:, None])
    close(metric.result(), naive(metric, [(target, pred, weights)]))


def test_graph_equals_eager(metric, close):
    target, pred, _ = case(metric)
    tf.function(metric.update_state)(target, pred)
    close(metric.result(), naive(metric, [(target, pred, None)]))


def test_without_labels(metric):
    target, pred, _ = case(metric)
    target[:, : 1 if target.shape[1] > 5 else 3] = np.nan
    metric.update_state(target, pred)
    assert metric.result() == 0.0


def test_nan_prediction_shows_only_where_there_is_a_label(metric):
    target, pred, _ = case(metric)
    metric.update_state(target, pred)
    expected = metric.result().numpy()
    metric.reset_state()
    pred[-1] = np.nan
    metric.update_state(target, pred)
    assert metric.result() == expected
    pred[0] = np.nan
    metric.update_state(target, pred)
    assert np.isnan(metric.result())


def test_float64_over_many_batches():
    # In float32 a sum of 1e8 no longer sees 1.
    metric = ForceMAE()
    target = np.zeros((1, 5), np.float32)
    target[:, 3] = 1
    metric.update_state(target, np.full((1, 3), 1e8, np.float32))
    for _ in range(8):
        metric.update_state(target, np.full((1, 3), 1.0, np.float32))
    assert metric.result().numpy() == (1e8 + 8) / 9


@settings(max_examples=20)
@given(st.integers(1, 200), st.floats(-10, 10))
def test_per_atom(atoms, error):
    counts = np.zeros((1, 119))
    counts[0, 29] = atoms
    target = np.hstack([[[-1e3 * atoms]], counts])
    for cls in (EnergyMAE, EnergyRMSE):
        metric = cls()
        metric.update_state(target, np.array([-1e3 * atoms + error]))
        np.testing.assert_allclose(metric.result(), abs(error) / atoms, atol=1e-9)


def test_serialization(metric):
    target, pred, weights = case(metric)
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    copy = keras.metrics.deserialize(config)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    for each in (metric, copy):
        each.update_state(target, pred, weights)
    assert copy.result() == metric.result()


@pytest.mark.parametrize("shape", [(1,), (9,), (10, 2), (1, 10)])
def test_energies_of_wrong_shape(shape):
    metric = EnergyMAE()
    target, _, _ = case(metric)
    with pytest.raises(ValueError, match=r"must be energies .*Nothing is broadcast"):
        metric.update_state(target, np.zeros(shape))


@pytest.mark.parametrize("shape", [(10,), (1, 3), (10, 3, 3)])
def test_forces_of_wrong_shape(shape):
    metric = ForceRMSE()
    target, _, _ = case(metric)
    with pytest.raises(ValueError, match=r"must be forces .*Nothing is broadcast"):
        metric.update_state(target, np.zeros(shape))


def test_targets_of_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(S, 120\)"):
        EnergyMAE().update_state(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match="must be energies"):
        EnergyMAE().update_state(np.zeros((4, 128)), np.zeros(4))
    with pytest.raises(ValueError, match=r"shape \(A, 5\)"):
        ForceMAE().update_state(np.zeros((4, 3)), np.zeros((4, 3)))
