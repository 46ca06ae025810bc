import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.layers import PESNormalization
from tfpes.models import Potential, SchNet

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
for case in ("small", "large"):
    arrays = np.load(f"{sys.argv[2]}/{case}.npz")
    outputs = model.serve({k: tf.constant(v) for k, v in arrays.items()})
    np.savez(f"{sys.argv[2]}/{case}_out.npz", **outputs)
for key, value in sorted(model.metadata().items()):
    per_element = value.shape == (119,)
    print(key, value.dtype.name, value.numpy()[79] if per_element else value.numpy())
print("tfpes" in sys.modules)
import keras, tfpes
model = keras.models.load_model(sys.argv[3])
inputs = dict(np.load(f"{sys.argv[2]}/small.npz"))
np.savez(f"{sys.argv[2]}/keras_out.npz", **model(inputs))
"""


@pytest.fixture(scope="module")
def alone(trained, crystals, graph, run_python, tmp_path_factory):
    """Return inputs, outputs and words of a process that knows TensorFlow alone.

    At its end it imports tfpes and loads the `.keras` file, too.
    """
    folder = tmp_path_factory.mktemp("alone")
    cases = {
        "small": graph(crystals[:1], dtype="float32"),
        "large": graph([*crystals[2:], crystals[0] * (2, 1, 1)], dtype="float32"),
    }
    for name, inputs in cases.items():
        np.savez(folder / f"{name}.npz", **inputs)
    words = run_python(SCRIPT, trained.saved_model, folder, trained.keras_file)
    outputs = {
        name: dict(np.load(folder / f"{name}_out.npz")) for name in (*cases, "keras")
    }
    return cases, outputs, words


@pytest.mark.parametrize("case", ["small", "large"])
def test_outputs_in_a_process_without_tfpes(trained, alone, case):
    inputs, outputs = alone[0][case], alone[1][case]
    expected = trained.model.evaluate_inputs(
        {name: tf.constant(value) for name, value in inputs.items()}, True
    )
    assert outputs.keys() == expected.keys() == {"energy", "forces", "virial"}
    assert outputs["energy"].dtype == outputs["virial"].dtype == np.float64
    np.testing.assert_allclose(outputs["energy"], expected["energy"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(outputs["forces"], expected["forces"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(outputs["virial"], expected["virial"], rtol=0, atol=1e-4)


def test_keras_file_in_a_new_process(trained, alone):
    expected, found = trained.model(alone[0]["small"]), alone[1]["keras"]
    assert found["energy"].dtype == np.float64
    np.testing.assert_allclose(found["energy"], expected["energy"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["forces"], expected["forces"], rtol=0, atol=1e-5)


def test_metadata(trained, alone):
    norm = trained.model.normalization
    statistics = {
        name: f"float64 {np.ravel(getattr(norm, name).numpy())[-1 if one else 79]}"
        for name, one in (
            ("collective_variance", True), ("energy_mean", False),
            ("energy_variance", False), ("force_scale", False),
            ("pressure_mean", False), ("pressure_scale", False),
            ("collective_pressure_variance", True), ("virial_scale", False),
            ("collective_virial_variance", True), ("seen", False),
        )
    }  # fmt: skip
    expected = statistics | {
        "cutoff": "float64 4.0",
        "dtype": "string b'float32'",
        "elements": "string [b'Cu' b'Au']",
        "energy_unit": "string b'eV'",
        "format_version": "int32 1",
        "length_unit": "string b'Angstrom'",
        "tfpes_version": f"string b'{tfpes.__version__}'",
    }
    *lines, imported = alone[2].splitlines()
    assert lines == [f"{name} {expected[name]}" for name in sorted(expected)]
    assert imported == "False"


def test_folder_holds_a_saved_model_and_nothing_else(trained):
    assert (trained.saved_model / "saved_model.pb").is_file()
    siblings = {path.name for path in trained.saved_model.parent.iterdir()}
    assert siblings == {"model.keras", "saved_model"}


@pytest.fixture(scope="module")
def pair():
    """Return two potentials that differ."""
    norm = PESNormalization(energy_mean={"H": -13.0}, energy_variance={"H": 1.0})
    return [
        Potential(
            SchNet(3.0, channels=2, blocks=1, basis_size=3),
            norm,
            reference_energies={"H": energy},
        )
        for energy in (-1.0, -2.0)
    ]


def energy_of_hydrogen(path, graph):
    from ase import Atoms

    inputs = graph([Atoms("H")], 3.0, "float32")
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    model = tf.saved_model.load(str(path))
    return model.serve(inputs)["energy"].numpy()[0]


@pytest.mark.slow
def test_export_again_replaces(pair, graph, tmp_path):
    path = tmp_path / "model"
    pair[0].export(path)
    first = energy_of_hydrogen(path, graph)
    (path / "stale").touch()
    pair[1].export(str(path))
    assert energy_of_hydrogen(path, graph) != pytest.approx(first, abs=0.1)
    assert not (path / "stale").exists()
    assert [p.name for p in path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_something_else_is_not_replaced(pair, tmp_path, kind):
    path = tmp_path / "precious"
    if kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("text")
    else:
        path.write_text("text")
    with pytest.raises(
        FileExistsError, match=r"replaces a SavedModel. Received: .*precious"
    ):
        pair[0].export(path)
    kept = path / "thesis.txt" if kind == "folder" else path
    assert kept.read_text() == "text"


def test_statistics_are_needed(tmp_path):
    model = Potential(SchNet(3.0, channels=2, blocks=1), PESNormalization())
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        model.export(tmp_path / "model")


def test_network_without_a_cutoff(pair, tmp_path):
    model = Potential(
        keras.layers.Lambda(lambda x: x["positions"][:, 0]), pair[0].normalization
    )
    with pytest.raises(ValueError, match=r"`network\.cutoff`.*Received: Lambda"):
        model.export(tmp_path / "model")
