import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.models import SchNet
from tfpes.models.schnet import _shifted_softplus


def softplus(x):
    return np.log(0.5 + 0.5 * np.exp(x))


def naive(network, inputs):
    """Evaluate the formula of the docstring edge by edge."""
    weight = {w.path.split("/", 1)[-1]: w.numpy() for w in network.weights}
    width = network.cutoff / (network.basis_size - 1)

    def dense(name, x):
        bias = weight.get(f"{name}/bias", 0.0)
        return x @ weight[f"{name}/kernel"] + bias

    (table,) = (value for name, value in weight.items() if "embedding" in name)
    features = table[inputs["atomic_numbers"]]
    for block in range(network.blocks):
        message = np.zeros_like(features)
        edges = zip(*inputs["edge_index"], inputs["edge_shift"], strict=True)
        for i, j, shift in edges:
            cell = inputs["cell"][inputs["structure_index"][i]]
            vector = inputs["positions"][j] + shift @ cell - inputs["positions"][i]
            d = np.sqrt(np.sum(vector**2))
            centres = width * np.arange(network.basis_size)
            basis = np.exp(-((d - centres) ** 2) / (2 * width**2))
            switch = (np.cos(np.pi * d / network.cutoff) + 1) / 2
            hidden = softplus(dense(f"filter_{block}_0", basis))
            filters = dense(f"filter_{block}_1", hidden) * switch
            message[i] += dense(f"mix_{block}", features[j]) * filters
        hidden = softplus(dense(f"update_{block}_0", message))
        features = features + dense(f"update_{block}_1", hidden)
    return dense("readout_1", softplus(dense("readout_0", features)))[:, 0]


@pytest.mark.parametrize("blocks", [1, 2])
def test_formula(frames, graph, blocks, close):
    keras.utils.set_random_seed(0)
    options = {"channels": 6, "blocks": blocks, "basis_size": 7, "dtype": "float64"}
    network = SchNet(5.0, interpolate=False, **options)
    inputs = graph([frames[n] for n in (0, 4, 5, 7, 13)], 5.0)
    network.build()
    for number, weight in enumerate(network.weights):
        if len(weight.shape) == 1:  # biases start at zero
            weight.assign(0.1 * np.cos(number + np.arange(weight.shape[0])))
    local = network(inputs)
    assert local.dtype == "float64"
    close(local, naive(network, inputs), "network64")
    interpolating = SchNet(5.0, **options)
    interpolating.build()
    interpolating.set_weights(network.get_weights())
    close(interpolating(inputs), naive(network, inputs), "float32")


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
@pytest.mark.parametrize("basis_size", [8, 64])
def test_interpolated_filters(kind, basis_size, close):
    """Values and slopes of the table against those of the network itself."""
    keras.utils.set_random_seed(0)
    network = SchNet(5.0, 16, 1, basis_size, cutoff_function=kind, dtype="float64")
    network.build()
    network.filters[0].bias.assign(np.cos(np.arange(16)))
    distance = tf.constant(np.linspace(0.5, 5.5, 4001))
    found = []
    for network.interpolate in (True, False):
        with tf.autodiff.ForwardAccumulator(
            distance, tf.ones_like(distance)
        ) as tangent:
            filters = network._filters(distance)(0)
        found.append((filters.numpy(), tangent.jvp(filters).numpy()))
    (value, slope), (exact_value, exact_slope) = found
    np.testing.assert_allclose(
        value, exact_value, atol=3e-8 * np.abs(exact_value).max()
    )
    close(slope, exact_slope, "float32")
    beyond = distance > 5.0
    np.testing.assert_array_equal(value[beyond], 0.0)
    np.testing.assert_array_equal(slope[beyond], 0.0)


def test_gradients_of_weights_through_the_table(frames, graph):
    """Weights get the gradients that the network itself gives."""
    inputs = graph([frames[n] for n in (0, 4, 7)], 5.0)
    gradients = []
    for interpolate in (True, False):
        keras.utils.set_random_seed(0)
        network = SchNet(
            5.0, 6, 2, basis_size=12, interpolate=interpolate, dtype="float64"
        )
        network.build()
        positions = tf.constant(inputs["positions"])
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                tape.watch(positions)
                local = network({**inputs, "positions": positions})
            forces = tf.convert_to_tensor(tape.gradient(local, positions))
            loss = tf.reduce_sum(local**2) + tf.reduce_sum(forces**2)
        found = outer.gradient(loss, network.trainable_weights)
        gradients.append([tf.convert_to_tensor(g).numpy() for g in found])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-6 * np.abs(other).max())


def test_shifted_softplus(close):
    x = np.array([-30.0, -1.0, 0.0, 2.0, 30.0])
    close(_shifted_softplus(x), softplus(x))


def test_elements_start_differently(frames, graph):
    local = SchNet(channels=4, blocks=1)(graph(frames[5:7], dtype="float32"))
    assert local[0] != local[1]
