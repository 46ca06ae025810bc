import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.inference.loading import load_potential
from tfpes.models import Potential, SchNet
from tfpes.statistics.standardize import NAMES


@pytest.fixture(scope="module")
def inputs(crystals, graph):
    arrays = graph(crystals[:2], dtype="float32")
    return {name: tf.constant(value) for name, value in arrays.items()}


@pytest.fixture
def copy(trained, tmp_path):
    """Return a copy of the SavedModel that may be damaged."""
    return shutil.copytree(trained.saved_model, tmp_path / "copy")


@pytest.mark.parametrize("form", ["keras_file", "saved_model", "run", "model"])
def test_forms(trained, inputs, form):
    source = {"run": trained.keras_file.parent}.get(form) or getattr(trained, form)
    loaded = load_potential(source)
    assert loaded.cutoff == 4.0
    assert loaded.elements == ("Cu", "Au")
    assert loaded.dtype == "float32"
    for name in NAMES:
        statistics = getattr(loaded.normalization, name).numpy()
        expected = getattr(trained.model.normalization, name).numpy()
        np.testing.assert_array_equal(statistics, expected)
    assert loaded.normalization.virial_scale.numpy().any()
    outputs = loaded(inputs)
    expected = trained.model.evaluate_inputs(inputs, True)
    assert outputs.keys() == {"energy", "forces", "virial"}
    for name, bound in (("energy", 1e-6), ("forces", 1e-5), ("virial", 1e-4)):
        np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras_file", "saved_model"])
def test_compiled_after_the_file_was_closed(trained, inputs, form):
    run = tf.function(load_potential(getattr(trained, form)), jit_compile=True)
    expected = trained.model.evaluate_inputs(inputs, False)["energy"]
    np.testing.assert_allclose(run(inputs)["energy"], expected, rtol=0, atol=1e-6)


def test_folder_with_a_saved_model_only(trained, tmp_path):
    shutil.copytree(trained.saved_model, tmp_path / "saved_model")
    assert load_potential(str(tmp_path)).elements == ("Cu", "Au")


def test_float64(graph, crystals, tmp_path):
    norm = tfpes.layers.PESNormalization(
        energy_mean={"Cu": -3.0, "Au": 1.0}, energy_variance={"Cu": 1.0, "Au": 2.0}
    )
    network = SchNet(4.0, channels=4, blocks=1, basis_size=5, dtype="float64")
    model = Potential(network, norm, dtype="float64")
    model.export(tmp_path / "model")
    loaded = load_potential(tmp_path / "model")
    assert loaded.dtype == load_potential(model).dtype == "float64"
    inputs = {k: tf.constant(v) for k, v in graph(crystals[:1]).items()}
    outputs, expected = loaded(inputs), model.evaluate_inputs(inputs, True)
    assert outputs["forces"].dtype == tf.float64
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=0, atol=1e-12)


# -- errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"), [("nowhere", "does not exist"), (".", "holds no model")]
)
def test_no_model(tmp_path, name, text):
    with pytest.raises(FileNotFoundError, match=rf"A potential is a .*{text}"):
        load_potential(tmp_path / name)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.99])
def test_truncated_keras_file(trained, tmp_path, fraction):
    content = trained.keras_file.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match=r"must be complete.*model.*broken off"):
        load_potential(path)


def test_another_file(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"written by `model\.save`.*model\.h5"):
        load_potential(tmp_path / "model.h5")


def test_keras_file_of_something_else(tmp_path):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"holds a Sequential\. Wrap the network"):
        load_potential(tmp_path / "model.keras")


def change_config(source, target, change):
    """Write a copy of a `.keras` file with another configuration."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)


def test_keras_file_of_a_newer_version(trained, tmp_path):
    path = tmp_path / "model.keras"
    change_config(
        trained.keras_file, path, lambda c: c["config"].update(option_of_tomorrow=1)
    )
    with pytest.raises(ValueError, match=r"option_of_tomorrow.*needs that version"):
        load_potential(path)


def test_code_in_a_keras_file_is_not_executed(trained, tmp_path):
    """Keras runs the bytecode of a Lambda layer, unless in safe mode."""
    trap = str(tmp_path / "trap")
    code = keras.layers.Lambda(lambda x: open(trap, "w").close() or x)
    path = tmp_path / "model.keras"
    network = keras.saving.serialize_keras_object(code)
    change_config(
        trained.keras_file, path, lambda c: c["config"].update(network=network)
    )
    with pytest.raises(ValueError, match=r"cannot load \(.*Lambda"):
        load_potential(path)
    assert not (tmp_path / "trap").exists()
    keras.saving.load_model(path, compile=False, safe_mode=False).network(tf.zeros(1))
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000"],
)
def test_truncated_saved_model(copy, name):
    (path,) = copy.glob(f"{name}*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"SavedModel must be complete.*copy.*Export"):
        load_potential(copy)


def test_saved_model_without_variables(copy):
    shutil.rmtree(copy / "variables")
    with pytest.raises(ValueError, match=r"SavedModel must be complete.*copy.*Export"):
        load_potential(copy)


def test_saved_model_of_something_else(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match="a SavedModel of something else"):
        load_potential(tmp_path)


def test_saved_model_with_other_metadata(tmp_path):
    module = tf.Module()
    signature = [tf.TensorSpec((), tf.float32)]
    module.serve = tf.function(lambda x: x, input_signature=signature)
    module.metadata = tf.function(lambda: {"cutoff": 1.0}, input_signature=[])
    tf.saved_model.save(module, str(tmp_path))
    with pytest.raises(ValueError, match="a SavedModel of something else"):
        load_potential(tmp_path)


def test_newer_format(trained, monkeypatch):
    monkeypatch.setattr(tfpes.inference.loading, "FORMAT_VERSION", 0)
    with pytest.raises(
        ValueError,
        match=r"format 0\. Received: .* format 1, written by tfpes .*Upgrade",
    ):
        load_potential(trained.saved_model)


def test_network_without_a_cutoff(trained):
    model = Potential(
        keras.layers.Lambda(lambda x: x["positions"][:, 0]), trained.model.normalization
    )
    with pytest.raises(ValueError, match=r"`network\.cutoff`.*Received: Lambda"):
        load_potential(model)


def test_model_without_statistics():
    model = Potential(SchNet(3.0), tfpes.layers.PESNormalization())
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        load_potential(model)
