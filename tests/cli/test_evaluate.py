import csv
import json
import shutil

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

import tfpes
from tfpes.cli import app

FILES = {"errors.csv", "errors.json", "parity.png"}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_fails(result, *texts):
    """One clear sentence on stderr, and exit code 1."""
    assert result.exit_code == 1, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("Error:")
    for text in texts:
        assert text in message


@pytest.fixture
def data(crystals, tmp_path):
    for number, atoms in enumerate(crystals):
        atoms.info["config_type"] = ("warm", "hot")[number % 2]
    ase.io.write(tmp_path / "data.xyz", crystals)
    return tmp_path / "data.xyz"


def test_errors_of_a_saved_model(trained, data, tmp_path):
    result = run("evaluate", trained.saved_model, data, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    found = json.loads((tmp_path / "out/errors.json").read_text())
    expected = tfpes.evaluate(trained.model, trained.structures).as_dict()
    for name in ("energy_rmse", "force_rmse", "force_cosine"):
        for group in ("by_size", "by_element"):
            for row, other in zip(found[group], expected[group], strict=True):
                assert row["name"] == other["name"]
                np.testing.assert_allclose(row[name], other[name], rtol=1e-4)
    assert [row["name"] for row in found["by_config_type"]] == ["hot", "warm"]
    # The files have virials, whatever the model was trained on.
    assert found["overall"]["standardized_virial_rmse"] > 0
    with (tmp_path / "out/errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["force_rmse"]) == found["overall"]["force_rmse"]
    assert (tmp_path / "out/parity.png").stat().st_size > 5000
    # Long titles are wrapped.
    assert "on 8 structures" in " ".join(result.output.split())
    assert f"{1e3 * found['overall']['energy_mae']:.1f}"[:4] in result.output


def test_folder_of_a_run_several_files_and_a_default_folder(
    trained, data, crystals, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(trained.keras_file, tmp_path / "run/model.keras")
    ase.io.write(tmp_path / "more.xyz", crystals[:3])
    result = run("evaluate", "run", data, "more.xyz")
    assert result.exit_code == 0, result.output
    assert "on 11 structures" in " ".join(result.output.split())
    folder = tmp_path / "runs/data-errors-1"
    assert {path.name for path in folder.iterdir()} == FILES


def test_nothing_is_overwritten(trained, data, tmp_path):
    arguments = ["evaluate", trained.saved_model, data, "-o", tmp_path]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert_fails(run(*arguments), "must be a new or empty folder", "`--overwrite`")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after == before
    assert before.keys() == {"data.xyz"}


def test_elements_that_the_model_has_not_seen(trained, data, tmp_path, labelled):
    frames = [
        labelled(bulk(name), energy=-1.0, forces=np.zeros((1, 3)))
        for name in ("Cu", "Ag", "Pt", "Pt")
    ]
    ase.io.write(tmp_path / "others.xyz", frames)
    result = run("evaluate", trained.saved_model, data, tmp_path / "others.xyz")
    assert_fails(
        result, "was trained on Cu, Au.", "Received: Ag, Pt in 3 of 12 structures"
    )
    assert not (tmp_path / "runs").exists()


def test_data_without_labels_and_files_that_are_not_there(trained, data, tmp_path):
    ase.io.write(tmp_path / "bare.xyz", bulk("Cu"))
    out = ["-o", tmp_path / "out"]
    result = run("evaluate", trained.saved_model, tmp_path / "bare.xyz", *out)
    assert_fails(result, "needs an energy under the name 'energy'", "`--energy-key`")
    result = run("evaluate", trained.saved_model, tmp_path / "no.xyz", *out)
    assert_fails(result, "a file that exists")
    result = run("evaluate", tmp_path / "no.keras", data, *out)
    assert_fails(result, "does not exist")
    result = run("evaluate", data, data, *out)
    assert_fails(result, "is a `.keras` file")
    assert not (tmp_path / "out").exists()
