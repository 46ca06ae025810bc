"""Reductions and weights do what they do in `keras.losses`, with exceptions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.targets import composition, pack

OURS = {"energy": EnergyLoss, "forces": ForceLoss}
THEIRS = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": lambda **options: keras.losses.Huber(delta=3.0, **options),
    "log_cosh": keras.losses.LogCosh,
}
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight", "sum", "none")


@pytest.fixture(scope="module")
def cases():
    """Return a layer and, by key, a target, a guess and both for Keras's losses."""
    rng = np.random.default_rng(0)
    numbers = rng.choice([1, 6, 8], (6, 5))
    labels = {"energy": rng.normal(size=6), "forces": rng.normal(size=(6, 5, 3))}
    guesses = {"energy": rng.normal(size=6), "forces": rng.normal(size=(6, 5, 3))}
    targets = pack(**labels, atomic_numbers=numbers)
    norm = PESNormalization()
    norm.adapt(targets)
    by_key = {}
    for key, what in (("energy", composition(numbers)), ("forces", numbers)):
        standardize = getattr(norm.statistics, f"standardize_{key}")
        rows = [standardize(values[key], what) for values in (labels, guesses)]
        rows = [row[:, None] if key == "energy" else row for row in rows]
        by_key[key] = targets[key], guesses[key], *rows
    return norm, by_key


@pytest.mark.parametrize("key", OURS)
@pytest.mark.parametrize("metric", THEIRS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions_and_weights(cases, key, metric, reduction):
    norm, (target, guess, true, pred) = cases[0], cases[1][key]
    options = {"reduction": reduction, "dtype": "float64"}
    of_rows = np.random.default_rng(1).uniform(0.5, 2.0, true.shape[:-1])
    for weight in (None, 0.5, of_rows):
        found = OURS[key](norm, metric, **options)(target, guess, weight)
        expected = THEIRS[metric](**options)(true, pred, weight)
        factor = 1.0
        if reduction == "sum" and key == "forces":
            factor = 3.0  # components, where Keras adds up means of rows
        if reduction == "mean_with_sample_weight" and np.isscalar(weight):
            factor = 1 / of_rows.size  # Keras divides by one weight, not by all rows'
        np.testing.assert_allclose(found, factor * expected, rtol=1e-6)


def test_masked_rows_are_not_in_the_divisor(cases):
    norm, (target, guess, true, pred) = cases[0], cases[1]["energy"]
    mask = np.array([True, False, True, True, False, True])
    guess, pred = tf.constant(guess), tf.constant(pred)
    guess._keras_mask = pred._keras_mask = tf.constant(mask)
    found = EnergyLoss(norm)(target, guess)
    expected = keras.losses.MeanSquaredError(dtype="float64")(true, pred)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    missing = tf.where(mask[:, None] | (np.arange(121) > 0), target, np.nan)
    np.testing.assert_allclose(EnergyLoss(norm)(missing, guess), found, rtol=1e-12)
