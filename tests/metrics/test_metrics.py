import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfpes.metrics import (
    EnergyMAE,
    ForceCosine,
    ForceMAE,
    ForceRMSE,
    StandardizedRMSE,
    VirialMAE,
)


def erase(target, key):
    target[:, : {"energy": 1, "forces": 3, "virial": 9}[key]] = np.nan


@pytest.mark.parametrize("weighted", [False, True])
def test_one_batch(case, batch, naive, weighted, close):
    """Predictions and weights may have a last dimension of 1."""
    target, pred, weights = batch(case.key)
    expected = naive(case, [(target, pred, weights if weighted else None)])
    metric = case.make()
    for shape in (np.s_[:], np.s_[..., None]):
        metric.reset_state()
        metric.update_state(target, pred[shape], weights[shape] if weighted else None)
        assert metric.result().dtype == tf.float64
        close(metric.result(), expected, case.kind)


@pytest.mark.parametrize("weighted", [False, True])
def test_exact_over_batches(case, batch, naive, weighted, close):
    # Not a mean of means: batches hold different numbers of labels.
    batches = [batch(case.key, *which) for which in ((0, 6), (1, 20), (2, 7))]
    if not weighted:
        batches = [(target, pred, None) for target, pred, _ in batches]
    metric = case.make()
    for each in batches:
        metric.update_state(*each)
    close(metric.result(), naive(case, batches), case.kind)
    metric.reset_state()
    assert np.isnan(metric.result())
    metric.update_state(*batches[1])
    close(metric.result(), naive(case, batches[1:2]), case.kind)


def test_padding_and_order_do_not_matter(case, batch, close):
    target, pred, weights = batch(case.key)
    metric = case.make()
    metric.update_state(target, pred, weights)
    expected = metric.result().numpy()
    padding = np.zeros((5, target.shape[1]), target.dtype)
    erase(padding, case.key)
    order = np.random.default_rng(0).permutation(15)
    metric.reset_state()
    metric.update_state(
        np.concatenate([target, padding])[order],
        np.concatenate([pred, np.ones((5, *pred.shape[1:]), pred.dtype)])[order],
        np.concatenate([weights, np.ones(5)])[order],
    )
    close(metric.result(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled(case, batch, naive, close, weighted):
    """XLA, and a graph that does not know lengths."""
    arrays = batch(case.key)[: 3 if weighted else 2]
    expected = naive(case, [arrays if weighted else (*arrays, None)])
    shapes = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in arrays]
    for options in ({"jit_compile": True}, {"input_signature": shapes}):
        metric = case.make()
        tf.function(metric.update_state, **options)(*arrays)
        close(metric.result(), expected, case.kind)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_predictions_of_any_type(case, batch, naive, close, dtype):
    target, pred, _ = batch(case.key)
    if case.key != "forces" and dtype != "float64":
        pred = pred + 1e3  # else all predictions near -1e5 are the same
    rounded = tf.cast(pred, dtype)
    metric = case.make()
    metric.update_state(target, rounded)
    expected = naive(case, [(target, np.asarray(rounded, np.float64), None)])
    close(metric.result(), expected, "float32")


def test_without_labels(case, batch):
    target, pred, weights = batch(case.key)
    erase(target, case.key)
    metric = case.make()
    for weight in (None, weights):
        metric.update_state(target, pred, weight)
        assert np.isnan(metric.result())


def test_nan_prediction_shows_only_where_there_is_a_label(case, batch):
    target, pred, _ = batch(case.key)
    metric = case.make()
    metric.update_state(target, pred)
    expected = metric.result().numpy()
    metric.reset_state()
    pred[-1] = np.nan
    metric.update_state(target, pred)
    assert metric.result() == expected
    pred[:-1] = np.nan
    metric.update_state(target, pred)
    assert np.isnan(metric.result())


def test_serialization(case, batch, copy_by_config):
    target, pred, weights = batch(case.key)
    metric = case.make()
    copy = copy_by_config(metric)
    assert type(copy) is type(metric)
    assert copy.get_config() == metric.get_config()
    for each in (metric, copy):
        each.update_state(target, pred, weights)
    assert copy.result() == metric.result()


def test_float64_over_many_batches():
    # In float32 a sum of 1e8 no longer sees 1.
    metric = ForceMAE()
    target = np.zeros((1, 5), np.float32)
    target[:, 3] = 1
    metric.update_state(target, np.full((1, 3), 1e8, np.float32))
    for _ in range(8):
        metric.update_state(target, np.full((1, 3), 1.0, np.float32))
    assert metric.result().numpy() == (1e8 + 8) / 9


def test_elements_have_names_of_their_own():
    names = [ForceMAE().name, ForceMAE(element="Cu").name, ForceRMSE(element=29).name]
    assert names == ["mae", "mae_Cu", "rmse_Cu"]
    assert ForceMAE(element="Cu", name="copper").name == "copper"
    with pytest.raises(ValueError, match=r"`element` must be symbols .*'Xx'"):
        ForceMAE(element="Xx")


def test_cosine_of_known_angles(close):
    target = np.zeros((3, 5), np.float32)
    target[:, 0], target[:, 3] = 2.0, 29
    pred = np.array([[1, 0, 0], [0, 1, 0], [-3, 0, 0]], np.float32)
    metric = ForceCosine()
    metric.update_state(target[:1], pred[:1])
    close(metric.result(), 1.0)
    metric.update_state(target[1:], pred[1:])
    close(metric.result(), 0.0, scale=1.0)
    everything = ForceCosine(threshold=2.5)
    everything.update_state(target, pred)
    assert np.isnan(everything.result())
    with pytest.raises(ValueError, match="`threshold` must not be negative"):
        ForceCosine(threshold=-1.0)


@pytest.mark.parametrize("sized", [False, True])
def test_weights_of_structures_weigh_their_atoms(sized, batch, close):
    target, pred, _ = batch("forces")
    # Rows of three belong together; the tenth is padding.
    weights = np.array([1.0, 0.5, 2.0, 0.0])
    by_atom, by_structure = ForceRMSE(), ForceRMSE()
    by_atom.update_state(target, pred, np.repeat(weights, 3)[:10])
    step = by_structure.update_state
    if sized:
        shapes = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in (target, pred)]
        shapes.append(tf.TensorSpec((None,), tf.float64))
        step = tf.function(step, input_signature=shapes)
    step(target, pred, weights)
    close(by_structure.result(), by_atom.result(), "float32")


@pytest.mark.parametrize(
    ("key", "what", "shapes", "classes"),
    [
        ("energy", "energies", [(1,), (9,), (10, 2), (1, 10)], [EnergyMAE]),
        ("forces", "forces", [(10,), (1, 3), (10, 3, 3)], [ForceRMSE, ForceCosine]),
        ("virial", "virials", [(10,), (10, 9), (1, 3, 3)], [VirialMAE]),
    ],
)
def test_predictions_of_wrong_shape(key, what, shapes, classes, batch):
    target, _, _ = batch(key)
    for shape, cls in itertools.product(shapes, classes):
        with pytest.raises(ValueError, match=f"must be {what} .*Nothing is broadcast"):
            cls().update_state(target, np.zeros(shape))


def test_targets_of_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(S, 121\)"):
        EnergyMAE().update_state(np.zeros(4), np.zeros(4))
    with pytest.raises(ValueError, match=r"key 'energy' is .*\(4, 128\), that of"):
        EnergyMAE().update_state(np.zeros((4, 128)), np.zeros(4))
    with pytest.raises(ValueError, match=r"key 'virial' is .*\(4, 121\), that of"):
        VirialMAE().update_state(np.zeros((4, 121)), np.zeros((4, 3, 3)))
    with pytest.raises(ValueError, match=r"shape \(A, 5\)"):
        ForceMAE().update_state(np.zeros((4, 3)), np.zeros((4, 3)))


def test_weights_of_wrong_shape(batch):
    target, pred, _ = batch("energy")
    for weights in (np.ones(3), np.ones((10, 2))):
        with pytest.raises(
            ValueError, match=r"must be \(10,\), one for each structure"
        ):
            EnergyMAE().update_state(target, pred, weights)
    target, pred, _ = batch("forces")
    with pytest.raises(ValueError, match=r"each atom, or for each structure"):
        ForceMAE().update_state(target, pred, np.ones((10, 3)))


def test_standardized_rmse_needs_a_key_and_statistics(batch, norm_):
    with pytest.raises(ValueError, match=r"`key` must be one of .*'stress'"):
        StandardizedRMSE(norm_, "stress")
    target, pred, _ = batch("forces")
    metric = StandardizedRMSE(type(norm_)(energy_mean={"H": 0}), "forces")
    with pytest.raises(RuntimeError, match="without any of the key 'forces'"):
        metric.update_state(target, pred)
