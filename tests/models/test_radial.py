import numpy as np
import pytest
import tensorflow as tf

from tfpes.models.radial import (
    cutoff_derivatives,
    cutoff_function,
    edge_vectors,
    gaussian_basis,
    gaussian_derivatives,
    safe_norm,
    sinc_basis,
)


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
def test_cutoff_function(kind, close):
    distance = np.linspace(0.0, 7.0, 71)
    expected = []
    for d in distance:
        x = d / 5.0
        if x >= 1:
            expected.append(0.0)
        elif kind == "cosine":
            expected.append((np.cos(np.pi * x) + 1) / 2)
        else:
            expected.append(1 - 28 * x**6 + 48 * x**7 - 21 * x**8)
    close(cutoff_function(tf.constant(distance), 5.0, kind), expected)


@pytest.mark.parametrize(("kind", "order"), [("cosine", 1), ("polynomial", 2)])
def test_cutoff_function_is_smooth(kind, order):
    distance = tf.Variable(5.0 - 1e-6, dtype=tf.float64)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            value = cutoff_function(distance, 5.0, kind)
        slope = tape.gradient(value, distance)
    curvature = outer.gradient(slope, distance)
    assert abs(value) < 1e-11
    assert abs(slope) < 1e-5
    assert (abs(curvature) < 1e-4) == (order == 2)


def autodiff(function, distance):
    """Return values, slopes and curvatures of an element-wise function."""
    distance = tf.constant(distance)
    with tf.autodiff.ForwardAccumulator(distance, tf.ones_like(distance)) as outer:
        with tf.autodiff.ForwardAccumulator(distance, tf.ones_like(distance)) as inner:
            value = function(distance)
        slope = inner.jvp(value)
    return np.stack([value, slope, outer.jvp(slope)])


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
def test_cutoff_derivatives(kind, close):
    distance = np.linspace(0.1, 4.99, 50)
    expected = autodiff(lambda d: cutoff_function(d, 5.0, kind), distance)
    close(cutoff_derivatives(distance, 5.0, kind), expected, "network64")
    assert np.abs(cutoff_derivatives(np.array([5.0]), 5.0, kind)[:2]).max() < 1e-12


def test_gaussian_basis(close):
    distance = np.array([0.3, 1.7, 4.9])
    expected = [
        [np.exp(-((d - centre) ** 2) / 2) for centre in range(6)] for d in distance
    ]
    close(gaussian_basis(tf.constant(distance), 6, 5.0), expected, "network64")
    distance = np.linspace(0.0, 6.0, 50)
    expected = autodiff(lambda d: gaussian_basis(d, 6, 5.0), distance)
    close(gaussian_derivatives(distance, 6, 5.0), expected, "network64")


def test_sinc_basis(close):
    distance = np.array([0.3, 1.7, 4.9])
    expected = [[np.sin(n * np.pi * d / 5) / d for n in (1, 2, 3, 4)] for d in distance]
    close(sinc_basis(tf.constant(distance), 4, 5.0), expected, "network64")


def test_edge_vectors(frames, graph, close):
    inputs = graph(frames)
    expected = []
    for (i, j), shift in zip(inputs["edge_index"].T, inputs["edge_shift"], strict=True):
        cell = inputs["cell"][inputs["structure_index"][i]]
        expected.append(inputs["positions"][j] + shift @ cell - inputs["positions"][i])
    close(edge_vectors(inputs), expected)


def test_safe_norm():
    vectors = tf.constant([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        length = safe_norm(vectors)
    np.testing.assert_allclose(length, [5.0, 1e-6], rtol=1e-6)
    expected = [[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(tape.gradient(length, vectors), expected, rtol=1e-6)
