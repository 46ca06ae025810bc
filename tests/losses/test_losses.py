import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.layers import PESNormalization
from tfpes.losses import (
    EnergyLoss,
    ForceLoss,
    VirialLoss,
    energy_error,
    force_error,
    virial_error,
)

MEAN = {1: -13.6, 8: -430.25, 29: -1640.5}
VARIANCE = {1: 0.04, 8: 0.25, 29: 0.5}
FORCE = {1: 0.5, 8: 1.5, 29: 2.5}
VIRIAL = {1: 0.3, 8: 0.9, 29: 2.1}
PRESSURE = {1: 0.5, 8: 1.9, 29: 3.1}
KAPPA2 = 0.0625
DELTA = 0.7
WIDTH = {"energy": 1, "forces": 3, "structures": 3, "virial": 9}
# "structures" are forces averaged within each structure first.
KEYS = tuple(WIDTH)
DTYPES = ("float32", "float64")
METRICS = ("mse", "mae", "huber", "log_cosh", "quartic")
CASES = [
    (key, metric)
    for key in KEYS
    for metric in (METRICS if key == "energy" else (*METRICS, "l2"))
]
REDUCTIONS = (
    "sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none", None,
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
            "virial_scale": VIRIAL,
            "pressure_scale": PRESSURE,
            "pressure_mean": dict.fromkeys(PRESSURE, 0.7),
            **options,
        }
    )


@pytest.fixture(scope="module")
def norm():
    return make_norm()


def case(key, seed=0, rows=9, dtype="float64"):
    """Return a packed target, a prediction and weights; some labels are missing."""
    rng = np.random.default_rng(seed)
    if key in ("forces", "structures"):
        numbers = np.append(rng.choice([1, 8, 29], rows - 1), 0)
        values = rng.normal(size=(rows, 3)).astype(np.float32)
        pred = (values + rng.normal(size=(rows, 3))).astype(dtype)
        values[1] = np.nan
        values[3, 2] = np.nan
        values[-1] = np.nan
        index = np.append(np.sort(rng.integers(0, 3, rows - 1)), 3)
        columns = [values, numbers[:, None], index[:, None]]
        target = np.hstack(columns).astype(np.float32)
    else:
        counts = np.zeros((rows, 119))
        counts[:, [1, 8, 29]] = rng.integers(0, 6, (rows, 3))
        counts[:, 1] += 1
        counts[-1] = 0.0
        values = rng.normal(size=(rows, WIDTH[key]))
        if key == "energy":
            values[:, 0] += counts[:, [1, 8, 29]] @ list(MEAN.values())
        pred = values + rng.normal(size=values.shape)
        pred = pred[:, 0] if key == "energy" else pred.reshape(rows, 3, 3)
        values[[2, -1]] = np.nan
        if key == "virial":
            values[3, 5] = np.nan
        low = 0 * values if key == "energy" else values[:, :0]
        target = np.hstack([values, low, counts])
    return target, pred, rng.uniform(0.1, 2.0, rows)


def six(virial):
    """Return pressure, two differences and three shears of (..., 9), orthonormal."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = np.moveaxis(virial, -1, 0)
    parts = xx + yy + zz, xx - yy, 2 * zz - xx - yy, yz + zy, xz + zx, xy + yx
    return np.stack(parts, axis=-1) / np.sqrt([3, 2, 6, 2, 2, 2])


def elementwise(metric, error):
    if metric == "mse":
        return error**2
    if metric == "mae":
        return abs(error)
    if metric == "log_cosh":
        return np.log(np.cosh(error))
    if metric == "quartic":
        return error**4 + 0.1 * error**2
    return error**2 / 2 if abs(error) <= DELTA else DELTA * (abs(error) - DELTA / 2)


def standard_deviation(key, row):
    """Return what the labels of a row are divided by, from its own columns."""
    if key in ("forces", "structures"):
        return FORCE.get(int(row[3]), 1.0)
    counts = row[-119:]
    if not counts.any():
        return 1.0
    if key == "virial":
        both = [(3, PRESSURE), *[(1, VIRIAL)] * 5]
        return [
            np.sqrt(factor * sum(counts[z] * v**2 for z, v in scale.items()))
            for factor, scale in both
        ]
    variance = sum(counts[z] * v for z, v in VARIANCE.items())
    return np.sqrt(variance + counts.sum() ** 2 * KAPPA2)


def naive(key, target, pred, metric, reduction, weights=None):
    """Return the loss by a loop over all labels, in float64."""
    weights = np.ones(len(target)) if weights is None else weights
    groups = {}
    for number, (row, guess) in enumerate(zip(target, pred, strict=True)):
        row, guess = row.astype(float), np.ravel(guess).astype(float)
        labels = row[: WIDTH[key]]
        if key == "virial":
            labels, guess = six(labels), six(guess)
        scales = np.broadcast_to(standard_deviation(key, row), labels.shape)
        errors = [
            (value - label) / scale
            for label, value, scale in zip(labels, guess, scales, strict=True)
            if not np.isnan(label)
        ]
        if metric == "l2":
            errors = [np.linalg.norm(errors)] if errors else []
        else:
            errors = [elementwise(metric, error) for error in errors]
        group = int(row[4]) if key == "structures" else number
        groups.setdefault(group, []).extend((weights[number], e) for e in errors)
    if key == "structures":
        # The mean of a structure and its mean weight count once.
        groups = {
            group: [(np.mean([w for w, _ in rows]), np.mean([w * e for w, e in rows]))]
            if rows
            else []
            for group, rows in groups.items()
        }
    else:
        groups = {g: [(w, w * e) for w, e in rows] for g, rows in groups.items()}
    total = sum(e for rows in groups.values() for _, e in rows)
    if reduction in ("none", None):
        result = np.zeros(len(target))
        for group, rows in groups.items():
            result[group] = np.mean([e for _, e in rows]) if rows else 0.0
        return result
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight":
        return total / sum(w for rows in groups.values() for w, _ in rows)
    return total / sum(len(rows) for rows in groups.values())


def make_loss(key, norm, metric="mse", **options):
    metric = quartic if metric == "quartic" else metric
    if key == "structures":
        options["average"] = "structures"
    cls = {"energy": EnergyLoss, "virial": VirialLoss}.get(key, ForceLoss)
    return cls(norm, metric, delta=DELTA, **options)


# -- values -------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("key", "metric"), CASES)
def test_values(norm, key, metric, reduction, weighted, close):
    """Every metric, reduction, weight, missing label, padding and rank."""
    for dtype in ("float64",) if key in ("energy", "virial") else DTYPES:
        target, pred, weights = case(key, dtype=dtype)
        weights = weights if weighted else None
        expected = naive(key, target, pred, metric, reduction, weights)
        loss = make_loss(key, norm, metric, reduction=reduction, dtype=dtype)
        value = loss(target, pred, weights)
        assert value.dtype == dtype
        close(value, expected, dtype)
    close(loss(target, pred[..., None], weights), expected, dtype)
    if weighted:
        close(loss(target, pred, weights[:, None]), expected, dtype)
    elif reduction is None:
        close(loss.call(target, pred), expected, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_weights_of_structures(norm, reduction, close):
    target, pred, _ = case("structures", rows=12)
    weights = np.array([0.3, 1.0, 2.0, np.nan])
    per_atom = weights[target[:, 4].astype(int)]
    loss = make_loss("structures", norm, reduction=reduction, dtype="float64")
    value = loss(target, pred, weights)
    expected = naive("structures", target, pred, "mse", reduction, per_atom)
    close(value, expected)
    close(tf.function(loss)(target, pred, weights), expected)
    close(loss(target, pred, per_atom), expected)


def test_big_structures_do_not_outvote_small_ones(norm):
    """Structures of 2 and 200 atoms with force errors of 1 and 3 eta."""
    index = np.repeat([0.0, 1.0], [2, 200])
    label = np.zeros((202, 3))
    numbers = np.full(202, 8)
    target = np.column_stack([label, numbers, index]).astype(np.float32)
    pred = FORCE[8] * np.where(index == 0, 1.0, 3.0)[:, None] * np.ones(3)
    by_structure = ForceLoss(norm, average="structures", dtype="float64")
    assert by_structure(target, pred).numpy() == pytest.approx((1 + 9) / 2, rel=1e-12)
    by_atom = ForceLoss(norm, dtype="float64")(target, pred).numpy()
    assert by_atom == pytest.approx((2 * 1 + 200 * 9) / 202, rel=1e-12)


@pytest.mark.parametrize("key", ["forces", "virial"])
def test_l2_is_invariant_to_rotations(norm, key):
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    target, pred, _ = case(key)
    target = target.astype(np.float64)
    labelled = ~np.isnan(target[:, : WIDTH[key]]).any(axis=1)
    target, pred = target[labelled], pred[labelled]

    def rotate(values):
        if key == "forces":
            return values @ rotation.T
        return rotation @ values.reshape(-1, 3, 3) @ rotation.T

    turned = target.copy()
    labels = rotate(target[:, : WIDTH[key]])
    turned[:, : WIDTH[key]] = labels.reshape(len(target), -1)
    values = {}
    for metric in ("l2", "mae"):
        loss = make_loss(key, norm, metric, dtype="float64")
        values[metric] = loss(target, pred) - loss(turned, rotate(pred))
    assert abs(values["l2"]) < 1e-12
    assert abs(values["mae"]) > 1e-3


def test_default_dtypes(norm):
    assert EnergyLoss(norm).dtype == "float64"
    assert VirialLoss(norm).dtype == "float64"
    assert ForceLoss(norm).dtype == "float32"


def test_small_differences_of_large_energies(dense):
    # float32 resolves 0.5 eV here.
    norm = make_norm(energy_mean={29: -60000.0}, energy_variance={29: 1.0})
    norm.collective_variance.assign(0.0)
    target = np.hstack([[[-6000000.0, 0.0]], dense({29: 100})])
    loss = EnergyLoss(norm, "mae")
    np.testing.assert_allclose(loss(target, np.array([-6000000.001])), 1e-4, rtol=1e-5)


def test_energy_as_float32_prediction(norm, close):
    target, pred, _ = case("energy")
    single = pred.astype(np.float32)
    expected = naive("energy", target, single, "mse", "sum")
    close(EnergyLoss(norm, reduction="sum")(target, single), expected)


@pytest.mark.parametrize("key", ["energy", "forces", "virial"])
def test_pure_functions(norm, key):
    function = {"energy": energy_error, "forces": force_error, "virial": virial_error}
    target, pred, _ = case(key)
    error, present = function[key](norm, target, pred, "huber", DELTA)
    assert error.shape == present.shape
    labels = target[:, : WIDTH[key]]
    labels = six(labels) if key == "virial" else labels
    found = np.reshape(present, (len(target), -1))
    np.testing.assert_array_equal(found, ~np.isnan(labels))
    assert not error.numpy()[~present.numpy()].any()
    if key != "energy":
        error, present = function[key](norm, target, pred, "l2")
        assert error.shape == present.shape == (len(target), 1)
    with pytest.raises(ValueError, match="`metric` must be one of"):
        function[key](norm, target, pred, "rmse")


# -- gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(("key", "metric"), CASES)
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
    missing = np.isnan(target[:, : WIDTH[key]]).reshape(pred.shape)
    assert missing.any()
    assert (gradient[missing] == 0).all()


@pytest.mark.parametrize(("key", "metric"), CASES)
def test_nothing_labelled(norm, key, metric):
    target, pred, _ = case(key)
    target[:, : WIDTH[key]] = np.nan
    variable = tf.Variable(pred)
    for reduction in REDUCTIONS:
        loss = make_loss(key, norm, metric, reduction=reduction)
        with tf.GradientTape() as tape:
            value = loss(target, variable)
        np.testing.assert_array_equal(value, np.zeros_like(value))
        np.testing.assert_array_equal(tape.gradient(value, variable), 0 * pred)


@pytest.mark.parametrize(("key", "metric"), CASES)
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


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
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
    if key == "structures":
        # A structure stays in one piece.
        cut = int(np.searchsorted(target[:, 4], target[cut, 4]))
    parts = [loss(target[c], pred[c], weights[c]) for c in (np.s_[:cut], np.s_[cut:])]
    np.testing.assert_allclose(sum(parts), total, rtol=1e-12)
    width = WIDTH[key]
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


def test_baseline_cancels(norm, close):
    target, pred, _ = case("energy")
    other = make_norm(energy_mean=dict.fromkeys(MEAN, 0.0))
    expected = EnergyLoss(norm)(target, pred)
    close(EnergyLoss(other)(target, pred), expected, "network64")


# -- execution ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("of_loss", DTYPES)
@pytest.mark.parametrize("of_pred", DTYPES)
def test_every_metric_dtype_and_mode(norm, of_pred, of_loss, close):
    """All in one function, since what takes time is to trace it."""
    losses = [make_loss(key, norm, metric, dtype=of_loss) for key, metric in CASES]
    batches = {key: case(key, dtype=of_pred) for key in KEYS}
    if of_pred == "float64":
        for key in ("forces", "structures"):
            batches[key] = np.float64(batches[key][0]), *batches[key][1:]

    def eager(batches):
        return [
            loss(*batches[key]) for loss, (key, _) in zip(losses, CASES, strict=True)
        ]

    graph = tf.function(eager)
    xla = tf.function(graph, jit_compile=True)
    for compute in (eager, graph, xla):
        for value, (key, metric) in zip(compute(batches), CASES, strict=True):
            assert value.dtype == of_loss
            expected = naive(key, *batches[key][:2], metric, "mean", batches[key][2])
            kind = "float64" if (of_pred, of_loss) == ("float64",) * 2 else "float32"
            close(value, expected, kind)


# -- serialization ------------------------------------------------------------------


@pytest.mark.parametrize(("key", "metric"), CASES)
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


@pytest.mark.parametrize("key", KEYS)
def test_used_before_adapt(key):
    target, pred, _ = case(key)
    loss = make_loss(key, PESNormalization())
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        loss(target, pred)
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        tf.function(loss)(target, pred)


@pytest.mark.parametrize("key", KEYS)
def test_options(norm, key):
    with pytest.raises(ValueError, match=r"`metric` must be one of.*'rmse'"):
        make_loss(key, norm, "rmse")
    with pytest.raises(ValueError, match=r"`reduction` must be one of.*'median'"):
        make_loss(key, norm, reduction="median")
    with pytest.raises(ValueError, match=r"`delta` must be positive.*-1\.0"):
        type(make_loss(key, norm))(norm, "huber", delta=-1.0)
    with pytest.raises(ValueError, match="Of single numbers, 'l2' is 'mae'"):
        EnergyLoss(norm, "l2")
    with pytest.raises(ValueError, match=r"`average` must be one of.*'elements'"):
        ForceLoss(norm, average="elements")


@pytest.mark.parametrize("key", ["energy", "forces", "virial"])
@pytest.mark.parametrize("shape", [(8,), (9, 3), (1,)])
def test_weights_of_another_shape(norm, key, shape):
    target, pred, _ = case(key)
    with pytest.raises(
        ValueError, match=r"`sample_weight` of the key.* must be \(9,\)"
    ):
        make_loss(key, norm)(target, pred, np.ones(shape))


@pytest.mark.parametrize(
    ("what", "dtype", "rounding"),
    # Half the distance of two numbers near -6e6.
    [("labels", "float16", 2048.0), ("predictions", "float32", 0.25)],
)
def test_coarse_energies_warn_once(dense, what, dtype, rounding):
    norm = make_norm(energy_mean={29: -60000.0}, energy_variance={29: 1.0})
    norm.collective_variance.assign(0.0)
    target = np.hstack([[[-6000000.0, 0.0]], dense({29: 100})])
    pred = np.array([-6000000.5])
    if what == "labels":
        target = tf.cast(target, dtype)
    else:
        pred = pred.astype(dtype)
    loss = EnergyLoss(norm)
    number = re.escape(f"{rounding:.2g}")
    match = rf"{what} of {dtype}, which rounds.*-?6e\+06 eV, by up to {number}"
    with pytest.warns(UserWarning, match=match):
        tf.function(loss)(target, pred)
    loss(target, pred)
    if what == "labels":  # of float32: they keep their digits
        tf.function(EnergyLoss(norm))(tf.cast(target, tf.float32), pred)
        return
    small = EnergyLoss(make_norm(energy_mean=dict.fromkeys(MEAN, -1.0)))
    tf.function(small)(target, pred)


@pytest.mark.parametrize(
    ("key", "what", "shapes"),
    [
        ("energy", "energies", [(), (1,), (8,), (1, 9), (9, 2), (9, 1, 1), (9, 9)]),
        ("forces", "forces", [(3,), (9,), (1, 3), (9, 1), (9, 3, 3), (9, 3, 1, 1)]),
        ("virial", "virials", [(9,), (9, 9), (1, 3, 3), (9, 3), (9, 3, 3, 3)]),
    ],
)
def test_predictions_are_not_broadcast(norm, key, what, shapes):
    target, _, _ = case(key)
    for shape in shapes:
        with pytest.raises(ValueError, match=f"must be {what} .*Nothing is broadcast"):
            make_loss(key, norm)(target, np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("key", "shape", "match"),
    [
        ("energy", (9,), r"shape \(S, 121\).*Received: \(9,\)"),
        ("energy", (9, 5), r"shape \(S, 121\).*Received: \(9, 5\)"),
        ("energy", (9, 128), r"that of the key 'virial'. Check the keys"),
        ("virial", (9, 121), r"that of the key 'energy'. Check the keys"),
        ("forces", (9, 3), r"shape \(A, 5\).*Received: \(9, 3\)"),
        ("forces", (9, 120), r"shape \(A, 5\).*Received: \(9, 120\)"),
    ],
)
def test_targets_of_another_key_or_none(norm, key, shape, match):
    with pytest.raises(ValueError, match=match):
        make_loss(key, norm)(np.zeros(shape), case(key)[1])


def test_element_never_seen(norm, dense):
    target = np.hstack([[[-1.0, 0.0]], dense({79: 1})])
    with pytest.raises(ValueError, match="structure 0 holds Au"):
        EnergyLoss(norm)(target, np.zeros(1))


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("key", KEYS)
def test_element_never_seen_is_nan_where_nothing_can_raise(norm, key, jit_compile):
    target, pred, _ = case(key)
    loss = tf.function(make_loss(key, norm, reduction="none"), jit_compile=jit_compile)
    before = loss(target, pred).numpy()
    place = (0, 3) if key in ("forces", "structures") else (0, 79 - 119)
    target[place] = 79
    after = loss(target, pred).numpy()
    strange = np.arange(len(after)) == 0
    assert np.isnan(after[strange]).all()
    if key != "structures":
        np.testing.assert_array_equal(after[~strange], before[~strange])


@pytest.mark.parametrize("key", KEYS)
def test_element_never_seen_without_a_label_leaves_no_trace(norm, key):
    target, pred, _ = case(key)
    target[0, : WIDTH[key]] = np.nan
    loss = tf.function(make_loss(key, norm))

    @tf.function
    def value_and_gradient(target, pred):
        with tf.GradientTape() as tape:
            tape.watch(pred)
            value = loss(target, pred)
        return value, tape.gradient(value, pred)

    before = value_and_gradient(target, tf.constant(pred))
    target[(0, 3) if key in ("forces", "structures") else (0, 79 - 119)] = 79
    after = value_and_gradient(target, tf.constant(pred))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(after[1]).all()
