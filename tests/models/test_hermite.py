import numpy as np
import pytest
import tensorflow as tf
from scipy.interpolate import BPoly

from tfpes.models.hermite import interpolate


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(3, 8, 4))


@pytest.fixture(scope="module")
def places():
    return np.append(np.linspace(0.0, 6.999, 50), np.arange(7.0))


def scipy_interpolant(table):
    return BPoly.from_derivatives(np.arange(8), np.moveaxis(table, 0, 1))


def derivative(table, x, upstream, order):
    """Differentiate Σ_pc upstream_c f_c(x_p) by x so many times."""
    if not order:
        return tf.linalg.matvec(interpolate([table], x)[0], upstream)
    with tf.GradientTape() as tape:
        tape.watch(x)
        below = derivative(table, x, upstream, order - 1)
    return tape.gradient(below, x)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("order", range(6))
def test_derivatives_against_scipy(table, places, close, order, compiled):
    upstream = np.array([1.0, -2.0, 0.5, 3.0])
    function = tf.function(derivative, jit_compile=True) if compiled else derivative
    found = function(tf.constant(table), tf.constant(places), upstream, order)
    expected = scipy_interpolant(table)
    expected = expected.derivative(order) if order else expected
    close(found, expected(places) @ upstream, "network64")


@pytest.mark.parametrize("order", [0, 1, 2])
def test_gradient_by_the_table(table, places, close, order):
    """Linear in the table, so the interpolant of each unit table says it all."""
    rng = np.random.default_rng(1)
    upstream, weights = rng.normal(size=4), rng.normal(size=len(places))
    variable = tf.constant(table)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        found = derivative(variable, tf.constant(places), upstream, order)
        total = tf.reduce_sum(weights * found)
    expected = np.zeros_like(table)
    for k, knot in np.ndindex(3, 8):
        unit = np.zeros((3, 8, 1))
        unit[k, knot] = 1.0
        basis = scipy_interpolant(unit)
        basis = basis.derivative(order) if order else basis
        expected[k, knot] = (weights @ basis(places)) * upstream
    close(tape.gradient(total, variable), expected, "network64")


def test_beyond_the_grid(table, close):
    x = tf.constant([7.0, 7.5, 1e6], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = interpolate([tf.constant(table)], x)[0]
    close(found, np.tile(table[0, -1], (3, 1)))
    np.testing.assert_array_equal(tape.gradient(found, x)[1:], 0.0)


def test_nan_stays_nan(table):
    x = tf.constant([np.nan, 1.0], tf.float64)
    found = interpolate([tf.constant(table)], x)[0]
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
