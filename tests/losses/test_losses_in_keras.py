"""The losses in every mode of Keras: policies, XLA, weights, files, custom loops."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss, VirialLoss

WIDTH = {"energy": 1, "forces": 3, "virial": 9}
WEIGHTS = {"energy": 2.0, "forces": 1.0, "virial": 0.5}


@keras.saving.register_keras_serializable(package="tests")
class Answers(keras.Model):
    """Answers with its weights, in the dtype of the policy, whatever the inputs."""

    def __init__(self, structures, atoms, **kwargs):
        # The baseline arrives in float64.
        super().__init__(autocast=False, **kwargs)
        self.sizes = {"structures": structures, "atoms": atoms}
        shapes = {
            "energy": (structures,),
            "forces": (atoms, 3),
            "virial": (structures, 3, 3),
        }
        seed = keras.initializers.RandomNormal(seed=1)
        self.answers = {
            key: self.add_weight(shape=shape, initializer=seed, name=key)
            for key, shape in shapes.items()
        }

    def call(self, inputs):
        answers = {
            key: tf.cast(tf.convert_to_tensor(answer), self.compute_dtype)
            for key, answer in self.answers.items()
        }
        # Total energies do not fit into 16 bits; their differences do.
        energy = tf.cast(answers["energy"], tf.float64) + inputs["baseline"]
        return {**answers, "energy": energy}

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@pytest.fixture(scope="module")
def batch(crystals):
    """Return inputs and targets of eight crystals; one label of each key is missing."""
    structures = tfpes.data.read(crystals, 4.0, verbose=False)
    ((_, targets),) = structures.batches(8, labels=("energy", "forces", "virial"))
    targets = {key: target.numpy() for key, target in targets.items()}
    for key, target in targets.items():
        target[1, : WIDTH[key]] = np.nan
    return targets


@pytest.fixture(scope="module")
def norm(batch):
    norm = PESNormalization(size_law="collective")
    norm.adapt([batch], verbose=0)
    return norm


def make_losses(norm, average="atoms", metric="huber"):
    return {
        "energy": EnergyLoss(norm, metric),
        "forces": ForceLoss(norm, metric, average=average),
        "virial": VirialLoss(norm, metric),
    }


def make_data(norm, targets, weights=None):
    composition = targets["energy"][:, 2:]
    inputs = {"baseline": norm.energy_baseline(composition)}
    parts = (inputs, targets) if weights is None else (inputs, targets, weights)
    return tf.data.Dataset.from_tensors(parts)


def make_model(norm, targets, average="atoms", build=True, **options):
    model = Answers(len(targets["energy"]), len(targets["forces"]))
    model.compile(
        keras.optimizers.SGD(0.05),
        loss=make_losses(norm, average),
        loss_weights=WEIGHTS,
        **options,
    )
    if build:  # Keras traces a step in which it makes variables a second time.
        model.optimizer.build(model.trainable_variables)
        model.compute_loss(y=targets, y_pred=dict(model.answers))
        model.reset_metrics()
    return model


def total(norm, targets, outputs, average="atoms", weights=None):
    """Return the weighted sum of losses, which `test_losses` has checked."""
    return sum(
        WEIGHTS[key] * float(loss(targets[key], outputs[key], (weights or {}).get(key)))
        for key, loss in make_losses(norm, average).items()
    )


def six(virial):
    """Return pressure, two differences and three shears of (..., 9), orthonormal."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = np.moveaxis(virial, -1, 0)
    parts = xx + yy + zz, xx - yy, 2 * zz - xx - yy, yz + zy, xz + zx, xy + yx
    return np.stack(parts, axis=-1) / np.sqrt([3, 2, 6, 2, 2, 2])


def by_hand(norm, targets, outputs, average="atoms"):
    """Return the weighted sum of the Huber losses, in NumPy."""
    total = 0.0
    for key, width in WIDTH.items():
        target = targets[key].astype(float)
        label = target[:, :width]
        if key == "forces":
            scale = norm.force_scale.numpy()[target[:, 3].astype(int)]
        else:
            counts = target[:, -119:]
            scale = norm.energy_scale(counts).numpy()
        error = np.reshape(outputs[key], label.shape) - label
        if key == "virial":
            error = six(error)
            scale = np.repeat(norm.virial_scale_of(counts)[:, None], 6, axis=1)
            scale[:, 0] = np.sqrt(3) * norm.pressure_scale_of(counts)
        else:
            scale = scale[:, None]
        size = np.abs(error / scale)
        huber = np.where(size < 3, size**2 / 2, 3 * (size - 1.5))
        present = ~np.isnan(error)
        if key == "forces" and average == "structures":
            index = target[:, 4].astype(int)
            means = [
                huber[(index == s)[:, None] & present].mean()
                for s in np.unique(index[present.any(axis=1)])
            ]
            total += WEIGHTS[key] * np.mean(means)
        else:
            total += WEIGHTS[key] * huber[present].mean()
    return total


# Keras's own modes, each with a coarse and a fine policy.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("float32", "eager"),
        ("mixed_float16", "eager"),
        ("float64", "graph"),
        ("mixed_bfloat16", "graph"),
        ("float32", "xla"),
        ("mixed_float16", "xla"),
    ],
)
def test_policies_and_modes(norm, batch, policy, name, mode):
    policy(name)
    average = "structures" if mode == "xla" else "atoms"
    options = {
        "eager": {"run_eagerly": True, "jit_compile": False},
        "graph": {"jit_compile": False},
        "xla": {"jit_compile": True},
    }
    model = make_model(norm, batch, average, **options[mode])
    data = make_data(norm, batch)
    ((inputs, _),) = data
    outputs = {key: value.numpy().astype(float) for key, value in model(inputs).items()}
    if name.startswith("mixed"):
        assert model(inputs)["forces"].dtype == name.removeprefix("mixed_")
    expected = by_hand(norm, batch, outputs, average)
    if mode == "graph":
        found = model.evaluate(data, return_dict=True, verbose=0)["loss"]
        assert found == pytest.approx(expected, rel=1e-6)
    first = model.train_on_batch(inputs, batch, return_dict=True)["loss"]
    assert first == pytest.approx(expected, rel=1e-6)
    second = model.train_on_batch(inputs, batch, return_dict=True)["loss"]
    assert second < first
    for weight in model.trainable_weights:
        assert np.isfinite(weight.numpy()).all()


class Table(keras.Model):
    """Answers with the energies that it was made with."""

    def __init__(self, energies):
        super().__init__()
        self.energies = energies
        self.shift = self.add_weight(shape=(), initializer="zeros")

    def call(self, index):
        known = tf.gather(tf.constant(self.energies), tf.cast(index, tf.int32))
        return {"energy": known + tf.cast(self.shift, tf.float64)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_labels_of_an_exact_model_keep_their_digits(mode, source):
    # Keras casts labels in arrays to float32, which is 31 meV wide there.
    generator = np.random.default_rng(0)
    counts = np.zeros((16, 119))
    counts[:, 29] = 40
    energies = -5e5 + 0.02 * generator.normal(size=16)
    energies[3] = -500_000.0  # a number of float32 as it is
    norm = PESNormalization(energy_mean={"Cu": -12_500}, energy_variance={"Cu": 1e-5})
    assert norm.energy_scale(counts[:1]).numpy() == pytest.approx(0.02)
    x = np.arange(16, dtype=np.int32)
    y = {"energy": tfpes.targets.structure_target(energies, counts).numpy()}
    model, mae = Table(energies), tfpes.metrics.EnergyMAE(per_atom=False)
    model.compile(
        keras.optimizers.SGD(1e-30),
        {"energy": EnergyLoss(norm)},
        metrics={"energy": [mae]},
        run_eagerly=mode == "eager",
        jit_compile=mode == "xla",
    )
    data = (x, y) if source == "arrays" else (make_rows(x, y),)
    history = model.fit(*data, verbose=0, shuffle=False).history
    errors = model.evaluate(*data, verbose=0, return_dict=True)
    for found in (history["loss"][0], errors["loss"]):
        assert abs(found) < 1e-12
    assert abs(errors[next(name for name in errors if "mae" in name)]) < 1e-8


def make_rows(*columns):
    return tf.data.Dataset.from_tensor_slices(columns).batch(8)


def test_gradient_of_half_precision_is_that_of_single(norm, batch, policy):
    gradients = {}
    for name in ("float64", "mixed_bfloat16"):
        policy(name)
        model = Answers(len(batch["energy"]), len(batch["forces"]))
        ((inputs, _),) = make_data(norm, batch)
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        with tf.GradientTape() as tape:
            outputs = model(inputs)
            losses = make_losses(norm).items()
            total = sum(
                tf.cast(loss(batch[key], outputs[key]), tf.float64)
                for key, loss in losses
            )
        gradients[name] = tape.gradient(total, model.trainable_weights)
    for half, double in zip(*reversed(gradients.values()), strict=True):
        scale = np.abs(double).max()
        np.testing.assert_allclose(half, double, rtol=0, atol=0.02 * scale)


def test_weights_of_a_dataset(norm, batch):
    """A third element of the dataset, as Keras has it; per structure for forces."""
    rng = np.random.default_rng(0)
    structures = len(batch["energy"])
    weights = {key: rng.uniform(0.1, 2.0, structures) for key in WIDTH}
    model = make_model(norm, batch, "structures", jit_compile=True)
    data = make_data(norm, batch, weights)
    ((inputs, _, _),) = data
    outputs = model(inputs)
    expected = total(norm, batch, outputs, "structures", weights)
    assert model.evaluate(data, return_dict=True, verbose=0)["loss"] == pytest.approx(
        expected, rel=1e-6
    )
    plain = total(norm, batch, outputs, "structures")
    assert plain != pytest.approx(expected, rel=1e-2)


def test_batches_without_any_label(norm, batch):
    empty = {key: target.copy() for key, target in batch.items()}
    for key, target in empty.items():
        target[:, : WIDTH[key]] = np.nan
    model = make_model(norm, batch, jit_compile=True)
    before = [w.numpy() for w in model.trainable_weights]
    history = model.fit(make_data(norm, empty), verbose=0, shuffle=False).history
    assert history["loss"] == [0.0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_traced_step_sees_a_later_adapt(batch):
    norm = PESNormalization()
    norm.adapt([batch], verbose=0)
    model = make_model(norm, batch, jit_compile=True)
    data = make_data(norm, batch)
    before = model.evaluate(data, return_dict=True, verbose=0)
    wider = {key: target.copy() for key, target in batch.items()}
    # Cohesion is in the mean, so that only deviations are stretched.
    baseline = norm.energy_baseline(batch["energy"][:, 2:]).numpy()
    wider["energy"][:, 0] = baseline + 4 * (batch["energy"][:, 0] - baseline)
    wider["forces"][:, :3] *= 4
    wider["virial"][:, :9] *= 4
    norm.adapt([wider], verbose=0)
    after = model.evaluate(data, return_dict=True, verbose=0)
    # Errors of ±1 eV beside a four times larger spread.
    assert after["forces_loss"] < 0.5 * before["forces_loss"]
    assert after["energy_loss"] != before["energy_loss"]


def functional():
    """A model of Keras alone, with an energy per row."""
    counts = keras.Input((119,), name="composition", dtype="float64")
    energy = keras.layers.Dense(1, dtype="float64", name="energy")(counts)
    return keras.Model({"composition": counts}, {"energy": energy})


@pytest.fixture
def composed(norm, batch):
    rows = ~np.isnan(batch["energy"][:, 0])
    target = batch["energy"][rows]
    return tf.data.Dataset.from_tensors(
        ({"composition": target[:, 2:]}, {"energy": target})
    )


def test_functional_model_file(norm, composed, tmp_path):
    model = functional()
    model.compile("adam", loss={"energy": EnergyLoss(norm, "log_cosh")})
    model.fit(composed, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss["energy"].metric == "log_cosh"
    assert int(loaded.optimizer.iterations) == 2
    expected = model.evaluate(composed, verbose=0)
    assert loaded.evaluate(composed, verbose=0) == pytest.approx(expected, rel=1e-12)
    histories = [
        m.fit(composed, epochs=3, verbose=0, shuffle=False).history["loss"]
        for m in (model, loaded)
    ]
    np.testing.assert_allclose(*histories, rtol=1e-12)


def test_clone_model(norm, composed):
    model = functional()
    model.compile("sgd", loss={"energy": EnergyLoss(norm)})
    clone = keras.models.clone_model(model)
    clone.compile_from_config(model.get_compile_config())
    clone.set_weights(model.get_weights())
    expected = model.evaluate(composed, verbose=0)
    assert clone.evaluate(composed, verbose=0) == pytest.approx(expected, rel=1e-12)
    assert clone.loss["energy"] is not model.loss["energy"]


@pytest.mark.slow
def test_custom_loop(norm, batch):
    """The same steps by hand as by `train_on_batch`."""
    ((inputs, _),) = make_data(norm, batch)
    compiled = make_model(norm, batch, jit_compile=True)
    model = Answers(len(batch["energy"]), len(batch["forces"]))
    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)
    losses = make_losses(norm)

    @tf.function(jit_compile=True)
    def step(inputs, targets):
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            total = sum(
                WEIGHTS[key] * tf.cast(loss(targets[key], outputs[key]), tf.float32)
                for key, loss in losses.items()
            )
        variables = model.trainable_weights
        optimizer.apply(tape.gradient(total, variables), variables)
        return total

    for _ in range(3):
        expected = compiled.train_on_batch(inputs, batch, return_dict=True)["loss"]
        assert float(step(inputs, batch)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "mode", [{"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}]
)
def test_rows_that_keras_masks_have_no_label(norm, batch, mode):
    keras.utils.set_random_seed(0)
    counts = keras.Input((119,), name="composition", dtype="float64")
    numbers = keras.Input((), name="numbers", dtype="int32")
    energy = keras.layers.Masking(dtype="float64")(counts)
    forces = keras.layers.Embedding(119, 4, mask_zero=True)(numbers)
    outputs = {
        "energy": keras.layers.Dense(1, dtype="float64")(energy),
        "forces": keras.layers.Dense(3)(forces),
    }
    model = keras.Model({"composition": counts, "numbers": numbers}, outputs)
    losses = {"energy": EnergyLoss(norm), "forces": ForceLoss(norm)}
    mae = {"energy": [tfpes.metrics.EnergyMAE()]}
    model.compile("sgd", losses, metrics=mae, **mode)
    targets = {key: batch[key].copy() for key in losses}
    inputs = {
        "composition": targets["energy"][:, 2:].copy(),
        "numbers": targets["forces"][:, 3].astype("int32"),
    }
    inputs["composition"][3] = 0
    inputs["numbers"][4:9] = 0
    data = tf.data.Dataset.from_tensors((inputs, targets))
    found = model.evaluate(data, return_dict=True, verbose=0)
    outputs = {key: value.numpy() for key, value in model(inputs).items()}
    unmasked = {key: loss(targets[key], outputs[key]) for key, loss in losses.items()}
    targets["energy"][3, 0] = np.nan
    targets["forces"][4:9, :3] = np.nan
    for key, loss in losses.items():
        expected = float(loss(targets[key], outputs[key]))
        assert found[f"{key}_loss"] == pytest.approx(expected, rel=1e-5)
        assert expected != pytest.approx(float(unmasked[key]), rel=1e-3)
    mae["energy"][0].reset_state()
    mae["energy"][0].update_state(targets["energy"], outputs["energy"])
    expected = mae["energy"][0].result()
    assert found["energy_mae"] == pytest.approx(float(expected), rel=1e-5)


def test_unlabelled_key_of_the_normalization(batch):
    """Statistics of energies alone do not do for a loss of forces."""
    norm = PESNormalization()
    norm.adapt([{"energy": batch["energy"]}], verbose=0)
    model = make_model(norm, batch, build=False)
    with pytest.raises(RuntimeError, match=r"without any of the key '(forces|virial)'"):
        model.fit(make_data(norm, batch), verbose=0, shuffle=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda y: {**y, "energy": y["forces"], "forces": y["energy"]},
            r"A target per (structure|atom) has the shape",
        ),
        (
            lambda y: {**y, "energy": y["energy"][:, 0]},
            r"Pack labels with `tfpes\.targets\.structure_target",
        ),
    ],
    ids=["swapped", "plain"],
)
def test_targets_that_do_not_fit(norm, batch, change, match):
    data = make_data(norm, batch).map(lambda x, y: (x, change(y)))
    with pytest.raises(ValueError, match=match):
        make_model(norm, batch).fit(data, verbose=0, shuffle=False)


def test_keras_2_is_refused(norm, batch, monkeypatch):
    """It would multiply a loss by the mean weight; here by what calls it alone."""
    target, pred = batch["energy"], batch["energy"][:, 0]
    loss, metric = EnergyLoss(norm), tfpes.metrics.EnergyMAE()
    caller = {"__name__": "tf_keras.src.losses"}
    exec("def call(fn, *args): return fn(*args)", caller)
    caller["call"](loss, target, pred)  # a namesake; Keras 2 is not even imported
    monkeypatch.setitem(sys.modules, "tf_keras", object())
    loss(target, pred)
    for function in (loss, metric.update_state, tfpes.metrics.MaxForceError()):
        with pytest.raises(
            TypeError, match=r"models of Keras 3\. Received: a call from"
        ):
            caller["call"](function, target, pred)
    for metric in (tfpes.metrics.EnergyMAE(), tfpes.metrics.MaxForceError()):
        assert metric.variables
        with pytest.raises(TypeError, match=r"models of Keras 3\. Received"):
            caller["call"](getattr, metric, "variables")  # `compile` of Keras 2
    with pytest.raises(TypeError, match="Build the model with `import keras`"):
        tf.function(lambda: caller["call"](loss, target, pred))()
