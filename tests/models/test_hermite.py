import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import BPoly

from tfpes.models.hermite import hermite_weights, interpolate


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(3, 8, 4))


def test_against_scipy(table, close):
    expected = BPoly.from_derivatives(np.arange(8), np.moveaxis(table, 0, 1))
    x = tf.constant(np.append(np.linspace(0.0, 6.999, 200), np.arange(7.0)))
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as tangent:
        found = interpolate(tf.constant(table), *hermite_weights(x, 7))
    close(found, expected(x))
    close(tangent.jvp(found), expected.derivative()(x), "network64")


def test_beyond_the_grid(table, close):
    x = tf.constant([7.0, 7.5, 1e6], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = interpolate(tf.constant(table), *hermite_weights(x, 7))
    close(found, np.tile(table[0, -1], (3, 1)))
    np.testing.assert_array_equal(tape.gradient(found, x)[1:], 0.0)


def test_nan_stays_nan(table):
    x = tf.constant([np.nan, 1.0], tf.float64)
    found = interpolate(tf.constant(table), *hermite_weights(x, 7))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
