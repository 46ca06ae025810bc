import keras
import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.build import bulk

import tfpes
from tfpes.layers import PESNormalization
from tfpes.models import PaiNN, Potential


def silu(x):
    return x / (1.0 + np.exp(-x))


def naive(network, inputs):
    """Evaluate the formulas of the paper edge by edge, v_j and a_vv always there.

    The rows of W and φ that the network leaves out, since they act on vectors that
    are zero or unused, are random numbers here.
    """
    rng = np.random.default_rng(0)
    weight = {w.path.split("/", 1)[-1]: w.numpy() for w in network.weights}
    size, cutoff, count = network.channels, network.cutoff, network.basis_size

    def dense(name, x, missing=0):
        kernel, bias = weight[f"{name}/kernel"], weight.get(f"{name}/bias", 0.0)
        y = x @ kernel + bias
        return np.concatenate([y, rng.normal(size=(*x.shape[:-1], missing))], axis=-1)

    (table,) = (value for name, value in weight.items() if "embedding" in name)
    s = table[inputs["atomic_numbers"]]
    v = np.zeros((len(s), size, 3))
    column = 0
    for block in range(network.blocks):
        first, last = block == 0, block == network.blocks - 1
        width = (2 if first else 3) * size
        kernel = weight["filters/kernel"][:, column : column + width]
        bias = weight["filters/bias"][column : column + width]
        column += width
        phi = dense(
            f"message_{block}_1",
            silu(dense(f"message_{block}_0", s)),
            missing=size if first else 0,
        )
        ds, dv = np.zeros_like(s), np.zeros_like(v)
        edges = zip(*inputs["edge_index"], inputs["edge_shift"], strict=True)
        for i, j, shift in edges:
            cell = inputs["cell"][inputs["structure_index"][i]]
            r = inputs["positions"][j] + shift @ cell - inputs["positions"][i]
            d = np.sqrt(np.sum(r**2))
            basis = np.sin(np.arange(1, count + 1) * np.pi * d / cutoff) / d
            switch = (np.cos(np.pi * d / cutoff) + 1) / 2
            w = (basis @ kernel + bias) * switch
            w = np.concatenate([w, rng.normal(size=3 * size - width)])
            split = (phi[j] * w).reshape(3, size)
            ds[i] += split[0]
            dv[i] += np.outer(split[1], r / d) + v[j] * split[2][:, None]
        s, v = s + ds, v + dv
        u_kernel, v_kernel = np.split(weight[f"mix_{block}/kernel"], 2, axis=1)
        uv = np.einsum("acx,cd->adx", v, u_kernel)
        vv = np.einsum("acx,cd->adx", v, v_kernel)
        norm = np.sqrt(np.sum(vv**2, axis=2) + 1e-8)
        a = dense(
            f"update_{block}_1",
            silu(dense(f"update_{block}_0", np.concatenate([s, norm], axis=1))),
            missing=size if last else 0,
        ).reshape(len(s), 3, size)
        s = s + a[:, 0] + a[:, 1] * np.sum(uv * vv, axis=2)
        v = v + a[:, 2, :, None] * uv
    return dense("readout_1", silu(dense("readout_0", s)))[:, 0]


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_formula(frames, graph, blocks, close):
    keras.utils.set_random_seed(0)
    network = PaiNN(
        cutoff=5.0, channels=4, blocks=blocks, basis_size=3, dtype="float64"
    )
    inputs = graph([frames[n] for n in (0, 4, 5, 7, 13)], 5.0)
    network.build()
    for number, weight in enumerate(network.weights):
        if len(weight.shape) == 1:  # biases start at zero
            weight.assign(0.1 * np.cos(number + np.arange(weight.shape[0])))
    local = network(inputs)
    assert local.dtype == "float64"
    close(local, naive(network, inputs), "network64")


def make_norm():
    return PESNormalization(
        energy_mean=np.zeros(119),
        energy_variance=np.ones(119),
        force_scale=np.ones(119),
    )


def small(dtype="float32", **options):
    keras.utils.set_random_seed(1)
    network = PaiNN(4.0, channels=8, blocks=2, basis_size=5, dtype=dtype)
    return Potential(network, make_norm(), dtype=dtype, **options)


def test_angles_matter(graph):
    """Vector features tell apart what has the same distances from each atom."""
    keras.utils.set_random_seed(0)
    network = PaiNN(1.2, channels=8, blocks=1, basis_size=5, dtype="float64")
    straight = Atoms("OCO", [[-1, 0, 0], [0, 0, 0], [1, 0, 0]])
    bent = Atoms("OCO", [[0, 1.1, 0], [0, 0, 0], [1, 0, 0]])
    bent.set_distance(0, 1, 1.0, fix=1)
    local = [network(graph([atoms], 1.2)).numpy() for atoms in (straight, bent)]
    np.testing.assert_allclose(local[0][[0, 2]], local[1][[0, 2]], rtol=1e-12)
    assert abs(local[0][1] - local[1][1]) > 1e-3


@pytest.mark.slow
def test_compiled_equals_eager(frames, graph, close):
    model = small("float64", compute_virial=True)
    inputs = graph(frames)
    compiled = tf.function(model, jit_compile=True)(inputs)
    for name, value in model(inputs).items():
        close(compiled[name], value, "network64")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_edges(graph, dtype):
    """A site with no vectors has a finite gradient too."""
    model = small(dtype, compute_virial=True)
    inputs = graph([Atoms("O"), Atoms("Ar2", [[0, 0, 0], [30, 0, 0]])], dtype=dtype)
    assert inputs["edge_index"].shape == (2, 0)
    outputs = tf.function(model, jit_compile=True)(inputs)
    assert np.isfinite(outputs["energy"]).all()
    np.testing.assert_array_equal(outputs["forces"], np.zeros((3, 3)))
    np.testing.assert_array_equal(outputs["virial"], np.zeros((2, 3, 3)))


def test_zero_lengths_have_finite_derivatives(graph):
    """In a perfect crystal all vectors vanish; and two atoms in one place."""
    perfect = graph([bulk("Cu")], dtype="float32")
    overlap = graph([Atoms("CO", [[0, 0, 0], [0, 0, 1]])], dtype="float32")
    overlap["positions"][:] = 0.0
    for inputs in (perfect, overlap):
        model = small()
        with tf.GradientTape() as tape:
            outputs = model(inputs)
            value = tf.reduce_sum(outputs["forces"] ** 2) + tf.cast(
                tf.reduce_sum(outputs["energy"]), "float32"
            )
        np.testing.assert_allclose(outputs["forces"], 0.0, atol=1e-5)
        gradients = tape.gradient(value, model.trainable_weights)
        assert len(gradients) == len(model.trainable_weights)
        for gradient in gradients:
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_every_weight_is_used(frames, graph):
    model = small("float64")
    inputs = graph(frames)
    with tf.GradientTape() as tape:
        outputs = model(inputs)
        value = tf.reduce_sum(outputs["forces"] ** 2 + outputs["energy"][0])
    for weight, gradient in zip(
        model.trainable_weights,
        tape.gradient(value, model.trainable_weights),
        strict=True,
    ):
        columns = np.abs(tf.convert_to_tensor(gradient)).reshape(-1, weight.shape[-1])
        if "embedding" not in weight.path:
            assert columns.max(axis=0).min() > 0, weight.path


@pytest.mark.parametrize("name", ["mixed_float16", "mixed_bfloat16"])
def test_policy(frames, graph, policy, name, close):
    expected = small()(graph(frames, dtype="float32"))
    policy(name)
    keras.utils.set_random_seed(1)
    network = PaiNN(4.0, channels=8, blocks=2, basis_size=5)
    outputs = Potential(network, make_norm())(graph(frames))
    assert outputs["forces"].dtype == "float32"
    for key, value in outputs.items():
        close(value, expected[key], "network32")


def test_defaults_are_those_of_the_paper():
    network = PaiNN()
    assert (network.channels, network.blocks, network.basis_size) == (128, 3, 20)
    assert network.cutoff_function == "cosine"


@pytest.mark.slow
def test_files(structures, graph, frames, tmp_path):
    """Trains by XLA; then `.keras` and SavedModel give the same numbers."""
    norm = PESNormalization()
    dataset = structures.batches(len(structures))
    norm.adapt(dataset, verbose=0)
    keras.utils.set_random_seed(0)
    network = PaiNN(4.0, channels=8, blocks=2, basis_size=5)
    model = Potential(network, norm)
    losses = {
        "energy": tfpes.losses.EnergyLoss(norm),
        "forces": tfpes.losses.ForceLoss(norm),
    }
    model.compile(keras.optimizers.Adam(1e-2), losses, jit_compile=True)
    history = model.fit(dataset, epochs=15, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    inputs = graph(frames[:5], dtype="float32")
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "saved_model")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    exported = tf.saved_model.load(str(tmp_path / "saved_model"))
    served = exported.serve(inputs)
    for name, value in expected.items():
        np.testing.assert_array_equal(loaded(inputs)[name], value)
        np.testing.assert_allclose(served[name], value, rtol=1e-5, atol=1e-5)
