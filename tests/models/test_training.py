"""Compiling, fitting and files of `Potential`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.losses import EnergyLoss, ForceLoss


def test_loss_falls(trained):
    assert np.isfinite(trained.losses).all()
    assert trained.losses[-1] < 0.7 * trained.losses[0]


def test_steps_are_traced_once(trained, close):
    """Keras traces a step in which it makes variables a second time."""
    calls = []

    class Network(keras.layers.Layer):
        cutoff = 4.0

        def call(self, inputs):
            calls.append(tf.executing_eagerly())
            return tf.norm(inputs["positions"], axis=1) * self.scale

        def build(self, shape):
            self.scale = self.add_weight(initializer="ones")

    norm = trained.model.normalization
    model = tfpes.models.Potential(Network(), norm)
    losses = {"energy": EnergyLoss(norm), "forces": ForceLoss(norm)}
    model.compile("adam", loss=losses)
    ((inputs, targets),) = trained.dataset
    outputs = model(inputs)
    expected = sum(float(losses[k](targets[k], outputs[k])) for k in losses)
    del calls[:]
    logged = model.train_on_batch(inputs, targets)
    close(logged[0], expected, "network32")
    model.evaluate(trained.dataset, verbose=0)
    assert calls == [False, False]


def test_one_loss_of_several_outputs(trained, close):
    model = keras.models.clone_model(trained.model)
    ((inputs, targets),) = trained.dataset
    loss = ForceLoss(trained.model.normalization)
    model.compile("sgd", loss={"forces": loss})
    expected = loss(targets["forces"], model(inputs)["forces"])
    history = model.fit(trained.dataset, shuffle=False, verbose=0).history
    close(history["loss"], [expected], "network32")


def test_a_fresh_network_starts_at_the_right_scale(trained):
    # The mean standardized squared error of predicting the mean is near 1.
    assert 0.1 < trained.losses[0] < 10


@pytest.mark.slow
def test_logged_values_are_those_of_the_predictions(trained, close):
    logs = trained.model.evaluate(trained.dataset, return_dict=True, verbose=0)
    ((inputs, targets),) = trained.dataset
    outputs = trained.model(inputs)
    norm = trained.model.normalization
    energy = EnergyLoss(norm)(targets["energy"], outputs["energy"]).numpy()
    huber = ForceLoss(norm, "huber", delta=2.0)
    forces = huber(targets["forces"], outputs["forces"]).numpy()
    close(logs["energy_loss"], energy, "network32")
    close(logs["forces_loss"], forces, "network32")
    close(logs["loss"], energy + 0.5 * forces, "network32")
    label, counts = targets["energy"][:-1, 0], targets["energy"][:-1, 2:]
    error = np.abs(outputs["energy"][:-1] - label) / np.sum(counts, axis=1)
    np.testing.assert_allclose(logs["energy_mae"], np.mean(error), rtol=1e-4)
    atoms = np.asarray(targets["forces"][:, 3] > 0)
    error = (outputs["forces"] - targets["forces"][:, :3])[atoms]
    rmse = np.sqrt(np.mean(np.square(error)))
    np.testing.assert_allclose(logs["forces_rmse"], rmse, rtol=1e-4)


def test_gradients_of_all_weights_are_finite(trained):
    ((inputs, targets),) = trained.dataset
    loss = EnergyLoss(trained.model.normalization)
    forces = ForceLoss(trained.model.normalization)
    with tf.GradientTape() as tape:
        outputs = trained.model(inputs)
        value = loss(targets["energy"], outputs["energy"])
        value += tf.cast(forces(targets["forces"], outputs["forces"]), tf.float64)
    gradients = tape.gradient(value, trained.model.trainable_weights)
    assert len(gradients) > 5
    for gradient in gradients:
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def load(trained):
    """Load what is compiled for XLA, and do without, for time."""
    model = keras.models.load_model(trained.keras_file)
    assert model.jit_compile is True
    model.jit_compile = False
    return model


@pytest.fixture(scope="module")
def loaded(trained):
    return load(trained)


def test_loading_restores_what_was_compiled(trained, loaded):
    assert loaded.compiled
    energy, forces = loaded.loss["energy"], loaded.loss["forces"]
    assert isinstance(energy, EnergyLoss)
    assert isinstance(forces, ForceLoss)
    assert (forces.metric, forces.delta) == ("huber", 2.0)
    assert int(loaded.optimizer.iterations) == 30
    assert loaded.optimizer.learning_rate == trained.model.optimizer.learning_rate
    expected = trained.model.evaluate(trained.dataset, return_dict=True, verbose=0)
    found = loaded.evaluate(trained.dataset, return_dict=True, verbose=0)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_loaded_losses_share_the_statistics_of_the_model(trained):
    loaded = load(trained)
    for loss in loaded.loss.values():
        assert loss.normalization is loaded.normalization
    norm = trained.model.normalization
    for ours, theirs in zip(loaded.normalization.weights, norm.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    # A later adapt is seen: half the spread is four times the squared loss.
    ((inputs, targets),) = trained.dataset
    loss = loaded.loss["energy"]
    pred = loaded(inputs)["energy"]
    before = loss(targets["energy"], pred).numpy()
    variance = loaded.normalization.energy_variance
    variance.assign(variance / 4)
    assert loss(targets["energy"], pred).numpy() == pytest.approx(4 * before)
    # So does the metric of the same errors.
    logs = loaded.evaluate(trained.dataset, return_dict=True, verbose=0)
    expected = np.sqrt(logs["energy_loss"])
    assert logs["energy_standardized_rmse"] == pytest.approx(expected, rel=1e-5)


def test_training_goes_on_after_loading(trained, loaded):
    history = loaded.fit(trained.dataset, epochs=2, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < 1.2 * trained.losses[-1]
    assert int(loaded.optimizer.iterations) == 32


def test_weights_files(trained, tmp_path):
    path = tmp_path / "model.weights.h5"
    trained.model.save_weights(path)
    copy = tfpes.models.Potential.from_config(trained.model.get_config())
    copy.build()
    copy.load_weights(path)
    ((inputs, _),) = trained.dataset
    expected = trained.model(inputs)
    for name, value in copy(inputs).items():
        np.testing.assert_array_equal(value, expected[name])


def test_use_before_adapt(trained):
    norm = tfpes.layers.PESNormalization()
    network = tfpes.models.SchNet(4.0, channels=4, blocks=1, basis_size=4)
    model = tfpes.models.Potential(network, norm)
    model.compile(loss={"energy": EnergyLoss(norm), "forces": ForceLoss(norm)})
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        model.fit(trained.dataset, shuffle=False, verbose=0)


def test_losses_on_a_model_of_keras_alone(trained):
    """Any model that outputs the keys will do; here, a functional one."""
    norm = trained.model.normalization
    numbers = keras.Input((), dtype="int32", name="atomic_numbers")
    forces = keras.layers.Embedding(119, 3, embeddings_initializer="ones")(numbers)
    model = keras.Model({"atomic_numbers": numbers}, {"forces": forces})
    model.compile("sgd", loss={"forces": ForceLoss(norm)}, jit_compile=False)
    ((inputs, targets),) = trained.dataset
    data = {"atomic_numbers": inputs["atomic_numbers"]}, {"forces": targets["forces"]}
    dataset = tf.data.Dataset.from_tensors(data)
    value = model.evaluate(dataset, verbose=0)
    z = targets["forces"][:, 3].numpy().astype(int)
    error = (1 - targets["forces"][:, :3]) / norm.force_scale.numpy()[z, None]
    expected = np.mean(np.asarray(error)[z > 0] ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
