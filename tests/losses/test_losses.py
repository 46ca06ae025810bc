import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss

MEAN = {1: -13.6, 8: -430.25, 29: -1640.5}
VARIANCE = {1: 0.04, 8: 0.25, 29: 0.5}
FORCE = {1: 0.5, 8: 1.5, 29: 2.5}
KAPPA2 = 0.0625
DELTA = 0.7
METRICS = ("mse", "mae", "huber", "quartic")
REDUCTIONS = (
    "sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None
)  # fmt: skip


@keras.saving.register_keras_serializable(package="tests")
def quartic(true, pred):
    return (pred - true) ** 4 + 0.1 * (pred - true) ** 2


def make_norm(**options):
    return PESNormalization(
        **{
            "energy_mean": MEAN,
            "energy_variance": VARIANCE,
            "collective_variance": KAPPA2,
            "force_scale": FORCE,
            **options,
        }
    )


@pytest.fixture(scope="module")
def norm():
    return make_norm()


def case(key, seed=0, rows=9, dtype="float64"):
    """Return a packed target, a prediction and weights; some labels are missing."""
    rng = np.random.default_rng(seed)
    if key == "energy":
        counts = np.zeros((rows, 119))
        counts[:, [1, 8, 29]] = rng.integers(0, 6, (rows, 3))
        counts[:, 1] += 1
        counts[-1] = 0.0
        values = counts[:, [1, 8, 29]] @ list(MEAN.values()) + rng.normal(size=rows)
        pred = values + rng.normal(size=rows)
        values[[2, -1]] = np.nan
        target = np.hstack([values[:, None], counts])
    else:
        numbers = np.append(rng.choice([1, 8, 29], rows - 1), 0)
        values = rng.normal(size=(rows, 3)).astype(np.float32)
        pred = (values + rng.normal(size=(rows, 3))).astype(dtype)
        values[1] = np.nan
        values[3, 2] = np.nan
        values[-1] = np.nan
        index = np.sort(rng.integers(0, 3, rows))
        columns = [values, numbers[:, None], index[:, None]]
        target = np.hstack(columns).astype(np.float32)
    return target, pred, rng.uniform(0.1, 2.0, rows)


def elementwise(metric, error):
    if metric == "mse":
        return error**2
    if metric == "mae":
        return abs(error)
    if metric == "quartic":
        return error**4 + 0.1 * error**2
    return error**2 / 2 if abs(error) <= DELTA else DELTA * (abs(error) - DELTA / 2)


def naive(key, target, pred, metric, reduction, weights=None):
    """Return the loss by a loop over all labels, in float64."""
    rows = []
    for row, guess in zip(target.astype(float), pred.astype(float), strict=True):
        errors = []
        if key == "energy":
            counts = row[1:]
            size = counts.sum()
            variance = size**2 * KAPPA2 + sum(
                counts[z] * v for z, v in VARIANCE.items()
            )
            labels, guess, scale = row[:1], [guess], np.sqrt(variance)
        else:
            labels, scale = row[:3], FORCE.get(int(row[3]), 1.0)
        for label, value in zip(labels, guess, strict=True):
            if not np.isnan(label):
                errors.append(elementwise(metric, (value - label) / scale))
        rows.append(errors)
    weights = np.ones(len(rows)) if weights is None else weights
    total = sum(w * sum(row) for w, row in zip(weights, rows, strict=True))
    if reduction in ("none", None):
        means = [sum(row) / len(row) if row else 0.0 for row in rows]
        return np.array(means) * weights
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight":
        return total / sum(w * len(row) for w, row in zip(weights, rows, strict=True))
    return total / sum(len(row) for row in rows)


def make_loss(key, norm, metric="mse", **options):
    metric = quartic if metric == "quartic" else metric
    cls = EnergyLoss if key == "energy" else ForceLoss
    return cls(norm, metric, delta=DELTA, **options)


# -- values -------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_energies(norm, metric, reduction, weighted, close):
    target, pred, weights = case("energy")
    weights = weights if weighted else None
    expected = naive("energy", target, pred, metric, reduction, weights)
    loss = make_loss("energy", norm, metric, reduction=reduction)
    value = loss(target, pred, weights)
    assert value.dtype == tf.float64
    close(value, expected)
    close(loss(target, pred[:, None], weights), expected)
    if weighted:
        close(loss(target, pred, weights[:, None]), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_forces(norm, metric, reduction, weighted, dtype, close):
    target, pred, weights = case("forces", dtype=dtype)
    weights = weights if weighted else None
    expected = naive("forces", target, pred, metric, reduction, weights)
    loss = make_loss("forces", norm, metric, reduction=reduction, dtype=dtype)
    value = loss(target, pred, weights)
    assert value.dtype == dtype
    close(value, expected, dtype)
    close(loss(target, pred[:, :, None], weights), expected, dtype)


def test_default_dtypes(norm):
    assert EnergyLoss(norm).dtype == "float64"
    assert ForceLoss(norm).dtype == "float32"


def test_small_differences_of_large_energies(dense):
    # float32 resolves 0.5 eV here.
    norm = make_norm(energy_mean={29: -60000.0}, energy_variance={29: 1.0})
    norm.collective_variance.assign(0.0)
    target = np.hstack([[[-6000000.0]], dense({29: 100})])
    loss = EnergyLoss(norm, "mae")
    np.testing.assert_allclose(loss(target, np.array([-6000000.001])), 1e-4, rtol=1e-5)


def test_energy_as_float32_prediction(norm, close):
    target, pred, _ = case("energy")
    single = pred.astype(np.float32)
    expected = naive("energy", target, single, "mse", "sum")
    close(EnergyLoss(norm, reduction="sum")(target, single), expected)


# -- gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["energy", "forces"])
@pytest.mark.parametrize("metric", METRICS)
def test_gradient(norm, key, metric, tolerance):
    target, pred, weights = case(key)
    loss = make_loss(key, norm, metric, dtype="float64")
    variable = tf.Variable(pred)
    with tf.GradientTape() as tape:
        value = loss(target, variable, weights)
    gradient = tape.gradient(value, variable).numpy()
    step = 1e-5
    expected = np.zeros_like(pred)
    for place in np.ndindex(pred.shape):
        ends = []
        for sign in (-1, 1):
            moved = pred.copy()
            moved[place] += sign * step
            ends.append(naive(key, target, moved, metric, "mean", weights))
        expected[place] = (ends[1] - ends[0]) / (2 * step)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
        gradient, expected, rtol=0, atol=10 * tolerance.differences * scale
    )
    missing = np.isnan(target[:, : 1 if key == "energy" else 3]).reshape(pred.shape)
    assert missing.any()
    assert (gradient[missing] == 0).all()


@pytest.mark.parametrize("key", ["energy", "forces"])
@pytest.mark.parametrize("metric", METRICS)
def test_nothing_labelled(norm, key, metric):
    target, pred, _ = case(key)
    target[:, : 1 if key == "energy" else 3] = np.nan
    variable = tf.Variable(pred)
    for reduction in REDUCTIONS:
        loss = make_loss(key, norm, metric, reduction=reduction)
        with tf.GradientTape() as tape:
            value = loss(target, variable)
        np.testing.assert_array_equal(value, np.zeros_like(value))
        np.testing.assert_array_equal(tape.gradient(value, variable), 0 * pred)


@pytest.mark.parametrize("key", ["energy", "forces"])
@pytest.mark.parametrize("metric", METRICS)
def test_nan_prediction_shows_only_where_there_is_a_label(norm, key, metric):
    target, pred, _ = case(key)
    loss = make_loss(key, norm, metric, dtype="float64")
    expected = loss(target, pred).numpy()
    hidden = pred.copy()
    hidden[-1] = np.nan
    variable = tf.Variable(hidden)
    with tf.GradientTape() as tape:
        value = loss(target, variable)
    assert value.numpy() == expected
    assert np.isfinite(tape.gradient(value, variable)).all()
    pred[0] = np.nan
    assert np.isnan(loss(target, pred).numpy())


# -- invariances --------------------------------------------------------------------


@pytest.mark.parametrize("key", ["energy", "forces"])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 12), data=st.data())
def test_order_padding_and_batching(key, seed, rows, data):
    norm = make_norm()
    target, pred, weights = case(key, seed, rows + 3)
    loss = make_loss(key, norm, reduction="sum", dtype="float64")
    mean = make_loss(key, norm, dtype="float64")
    total, average = loss(target, pred, weights), mean(target, pred, weights)
    order = data.draw(st.permutations(range(rows + 3)))
    shuffled = target[order], pred[order], weights[order]
    np.testing.assert_allclose(loss(*shuffled), total, rtol=1e-12)
    cut = data.draw(st.integers(1, rows))
    parts = [loss(target[c], pred[c], weights[c]) for c in (np.s_[:cut], np.s_[cut:])]
    np.testing.assert_allclose(sum(parts), total, rtol=1e-12)
    width = 1 if key == "energy" else 3
    padding = np.zeros((4, target.shape[1]), target.dtype)
    padding[:, :width] = np.nan
    garbage = np.full((4, *pred.shape[1:]), 1e30)
    padded = (
        np.concatenate([target, padding]),
        np.concatenate([pred, garbage]),
        np.concatenate([weights, np.ones(4)]),
    )
    np.testing.assert_allclose(loss(*padded), total, rtol=1e-12)
    np.testing.assert_allclose(mean(*padded), average, rtol=1e-12)


@settings(max_examples=10)
@given(st.floats(1e-3, 1e3))
def test_units_do_not_matter(factor):
    target, pred, _ = case("energy")
    scaled = make_norm(
        energy_mean={z: factor * v for z, v in MEAN.items()},
        energy_variance={z: factor**2 * v for z, v in VARIANCE.items()},
        collective_variance=factor**2 * KAPPA2,
    )
    changed = np.hstack([factor * target[:, :1], target[:, 1:]])
    np.testing.assert_allclose(
        EnergyLoss(scaled)(changed, factor * pred),
        EnergyLoss(make_norm())(target, pred),
        rtol=1e-9,
    )


def test_baseline_cancels(norm, close):
    target, pred, _ = case("energy")
    other = make_norm(energy_mean=dict.fromkeys(MEAN, 0.0))
    expected = EnergyLoss(norm)(target, pred)
    close(EnergyLoss(other)(target, pred), expected, "network64")


# -- execution ----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_eager_graph_and_xla_agree(norm, key, close):
    target, pred, weights = case(key, dtype="float32")
    loss = make_loss(key, norm, "huber")
    dtype = "float64" if key == "energy" else "float32"
    expected = naive(key, target, pred, "huber", "mean", weights)
    for jit_compile in (False, True):
        function = tf.function(loss, jit_compile=jit_compile)
        close(function(target, pred, weights), expected, dtype)


def test_traced_loss_sees_a_later_adapt(close):
    norm = PESNormalization()
    target, pred, _ = case("energy", rows=30)
    norm.adapt([{"energy": target}])
    loss = EnergyLoss(norm)
    traced = tf.function(loss)
    before = traced(target, pred).numpy()
    wider = target.copy()
    wider[:, 0] += np.random.default_rng(1).normal(size=30) * 100
    norm.adapt([{"energy": wider}])
    after = traced(target, pred).numpy()
    assert traced.experimental_get_tracing_count() == 1
    close(after, loss(target, pred), "network64")
    assert after < 0.1 * before


# -- serialization ------------------------------------------------------------------


@pytest.mark.parametrize("key", ["energy", "forces"])
@pytest.mark.parametrize("metric", METRICS)
def test_config_round_trip(norm, key, metric):
    target, pred, weights = case(key)
    options = {"name": "mine", "dtype": "float64"}
    loss = make_loss(key, norm, metric, reduction="mean_with_sample_weight", **options)
    config = json.loads(json.dumps(keras.losses.serialize(loss)))
    copy = keras.losses.deserialize(config)
    assert type(copy) is type(loss)
    assert copy.name == "mine"
    assert copy.normalization is not norm
    assert copy(target, pred, weights).numpy() == loss(target, pred, weights).numpy()
    assert copy.get_config() == loss.get_config()


# -- errors -------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_used_before_adapt(key):
    target, pred, _ = case(key)
    loss = make_loss(key, PESNormalization())
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        loss(target, pred)
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        tf.function(loss)(target, pred)


@pytest.mark.parametrize("key", ["energy", "forces"])
def test_options(norm, key):
    with pytest.raises(ValueError, match=r"`metric` must be one of.*'rmse'"):
        make_loss(key, norm, "rmse")
    with pytest.raises(ValueError, match=r"`reduction` must be one of.*'median'"):
        make_loss(key, norm, reduction="median")


def test_energies_that_are_not_packed(norm):
    with pytest.raises(ValueError, match=r"shape \(S, 120\).*Received: \(9,\)"):
        EnergyLoss(norm)(np.zeros(9), np.zeros(9))


def test_forces_that_are_not_packed(norm):
    with pytest.raises(ValueError, match=r"shape \(A, 5\).*Received: \(9, 3\)"):
        ForceLoss(norm)(np.zeros((9, 3)), np.zeros((9, 3)))


def test_swapped_keys(norm):
    energy, forces = case("energy"), case("forces")
    with pytest.raises(ValueError, match=r"shape \(S, 120\).*Received: \(9, 5\)"):
        EnergyLoss(norm)(forces[0], energy[1])
    with pytest.raises(ValueError, match=r"shape \(A, 5\).*Received: \(9, 120\)"):
        ForceLoss(norm)(energy[0], forces[1])
    with pytest.raises(ValueError, match="must be energies"):
        EnergyLoss(norm)(energy[0], forces[1])
    with pytest.raises(ValueError, match="must be forces"):
        ForceLoss(norm)(forces[0], energy[1])


def test_virial_target_in_the_energy_loss(norm):
    with pytest.raises(ValueError, match=r"which is a virial's. Check the keys"):
        EnergyLoss(norm)(np.zeros((4, 128)), np.zeros(4))


@pytest.mark.parametrize("shape", [(), (1,), (8,), (1, 9), (9, 2), (9, 1, 1), (9, 9)])
def test_energies_are_not_broadcast(norm, shape):
    target, _, _ = case("energy")
    with pytest.raises(ValueError, match=r"must be energies .*Nothing is broadcast"):
        EnergyLoss(norm)(target, np.zeros(shape))


@pytest.mark.parametrize("shape", [(3,), (9,), (1, 3), (9, 1), (9, 3, 3), (9, 3, 1, 1)])
def test_forces_are_not_broadcast(norm, shape):
    target, _, _ = case("forces")
    with pytest.raises(ValueError, match=r"must be forces .*Nothing is broadcast"):
        ForceLoss(norm)(target, np.zeros(shape, np.float32))


def test_element_never_seen(norm, dense):
    target = np.hstack([[[-1.0]], dense({79: 1})])
    with pytest.raises(ValueError, match="structure 0 holds Au"):
        EnergyLoss(norm)(target, np.zeros(1))
