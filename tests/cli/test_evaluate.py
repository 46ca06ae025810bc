import csv
import json
import shutil

import ase.io
import numpy as np
import pytest
from ase.build import bulk

import tfpes

FILES = {"errors.csv", "errors.json", "parity.png"}


@pytest.fixture
def data(crystals, tmp_path):
    for number, atoms in enumerate(crystals):
        atoms.info["config_type"] = ("warm", "hot")[number % 2]
    ase.io.write(tmp_path / "data.xyz", crystals)
    return tmp_path / "data.xyz"


@pytest.mark.slow
def test_errors_of_a_saved_model(run, trained, data, tmp_path):
    out = tmp_path / "out"
    result = run("evaluate", trained.saved_model, data, "-o", out)
    assert {path.name for path in out.iterdir()} == FILES
    found = json.loads((out / "errors.json").read_text())
    expected = tfpes.evaluate(trained.model, trained.structures).as_dict()
    for name in ("energy_rmse", "force_rmse", "force_cosine"):
        for group in ("by_size", "by_element"):
            for row, other in zip(found[group], expected[group], strict=True):
                assert row["name"] == other["name"]
                np.testing.assert_allclose(row[name], other[name], rtol=1e-4)
    assert [row["name"] for row in found["by_config_type"]] == ["hot", "warm"]
    # The files have virials, whatever the model was trained on.
    assert found["overall"]["standardized_virial_rmse"] > 0
    with (out / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["force_rmse"]) == found["overall"]["force_rmse"]
    assert (out / "parity.png").stat().st_size > 5000
    # Long titles are wrapped.
    assert "on 8 structures" in " ".join(result.output.split())
    assert f"{1e3 * found['overall']['energy_mae']:.1f}"[:4] in result.output


@pytest.mark.slow
def test_structures_that_the_model_was_trained_on(run, refuse, trained, data, tmp_path):
    """Their errors stand apart, wherever in the folder of the run the model is."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(trained.keras_file, folder / "model.keras")
    names = tfpes.data.read(data, 5.0, verbose=False).hashes.tolist()
    assert len(set(names)) == 8
    known = folder / "trained_on.json"
    known.write_text(json.dumps({"train": names[:2], "valid": names[5:6]}))
    for model in (folder, folder / "model.keras"):
        out = tmp_path / f"errors-{model.name}"
        result = run("evaluate", model, data, "-o", out)
        said = " ".join(result.output.split())
        assert "3 of these structures are those that the model was trained or" in said
        rows = json.loads((out / "errors.json").read_text())["by_training"]
        assert [(row["name"], row["structures"]) for row in rows] == [
            ("new", 5),
            ("trained on", 3),
        ]
        assert any(line.startswith("trained on") for line in result.output.splitlines())
    known.write_text("[]")
    refuse(["evaluate", folder, data], "which is damaged or of something else")


def test_folder_of_a_run_several_files_and_a_default_folder(
    run, trained, data, crystals, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(trained.keras_file, tmp_path / "run/model.keras")
    ase.io.write(tmp_path / "more.xyz", crystals[:3])
    result = run("evaluate", "run", data, "more.xyz")
    assert "on 11 structures" in " ".join(result.output.split())
    folder = tmp_path / "runs/data-errors-1"
    assert {path.name for path in folder.iterdir()} == FILES


def test_nothing_is_overwritten(refuse, trained, data, tmp_path):
    before = data.read_bytes()
    refuse(
        ["evaluate", trained.saved_model, data, "-o", tmp_path],
        "must be a new or empty folder",
        "`--overwrite`",
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {data: before}


def test_elements_that_the_model_has_not_seen(
    run, refuse, trained, data, tmp_path, labelled, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    frames = [
        labelled(bulk(name), energy=-1.0, forces=np.zeros((1, 3)))
        for name in ("Cu", "Ag", "Pt", "Pt")
    ]
    ase.io.write("others.xyz", frames)
    result = run("evaluate", trained.saved_model, data, "others.xyz")
    output = " ".join(result.output.split())
    assert "Left out: 3 of 12 structures with Ag, Pt, which the model does" in output
    assert "on 9 structures" in output
    ase.io.write("strange.xyz", frames[1:])
    refuse(
        ["evaluate", trained.saved_model, "strange.xyz"],
        "must hold nothing but Cu, Au. Received: 3 of 3 structures with Ag, Pt",
    )


@pytest.mark.parametrize(
    ("model", "file", "texts"),
    [
        (None, "bare.xyz", ["an energy under the name 'energy'", "`--energy-key`"]),
        (None, "no.xyz", ["a file that exists"]),
        ("no.keras", "data.xyz", ["does not exist"]),
        ("data.xyz", "data.xyz", ["is a `.keras` file"]),
    ],
)
def test_data_without_labels_and_files_that_are_not_there(
    refuse, trained, data, tmp_path, monkeypatch, model, file, texts
):
    monkeypatch.chdir(tmp_path)
    ase.io.write("bare.xyz", bulk("Cu"))
    refuse(["evaluate", model or trained.saved_model, file, "-o", "out"], *texts)
    assert not (tmp_path / "out").exists()
