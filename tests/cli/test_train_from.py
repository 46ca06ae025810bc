"""``tfpes train --from``."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk


@pytest.fixture
def data(crystals, labelled, tmp_path):
    """Structures with the labels of another theory: copper is 100 eV lower."""
    frames = []
    for atoms in crystals * 2:
        energy = atoms.get_potential_energy() - 100 * np.sum(atoms.numbers == 29)
        frames.append(labelled(atoms, energy=energy, forces=atoms.get_forces()))
    ase.io.write(tmp_path / "other.xyz", frames)
    return tmp_path / "other.xyz"


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["refit", "keep", "adapt"])
def test_from_a_model(refuse, trained, data, tmp_path, fitted, baseline):
    before = trained.keras_file.read_bytes()
    start = ["--from", trained.keras_file, "--baseline", baseline]
    result = refuse(["train", data, *start, "-o", tmp_path / "out"], "by the test")
    assert fitted["train"].cutoff == 4.0  # of the model
    model, old = fitted["model"], trained.model
    for one, other in zip(model.network.weights, old.network.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    shift = model.normalization.energy_mean - old.normalization.energy_mean
    moved = -100.0 if baseline != "keep" else 0.0
    assert shift.numpy()[29] == pytest.approx(moved, abs=1.0)
    assert ("Cu -" in result.output) == (baseline != "keep")
    options = json.loads((tmp_path / "out/config.json").read_text())["options"]
    assert options["start"] == str(trained.keras_file)
    assert (options["baseline"], options["cutoff"]) == (baseline, 4.0)
    assert trained.keras_file.read_bytes() == before


def test_what_is_refused(refuse, trained, data, tmp_path, fitted):
    start = ["--from", trained.keras_file]
    for arguments, text in (
        ([*start, "--channels", 8], "Received: `--channels`"),
        ([*start, "--cutoff", 5], "Received: `--cutoff`"),
        ([*start, "--size-law", "auto"], "Received: `--size-law`"),
        (["--baseline", "keep"], "Received: no `--from`"),
        (["--from", tmp_path], "which is neither"),
        ([*start, "-o", trained.keras_file.parent, "--overwrite"], "not overwrite the"),
    ):
        refuse(["train", data, "-o", tmp_path / "out", *arguments], text)
    assert not fitted
    assert not (tmp_path / "out").exists()


def test_new_elements(refuse, trained, crystals, labelled, tmp_path, fitted):
    silver = bulk("Ag", a=4.1, cubic=True)
    frames = [
        labelled(atoms, energy=0.1 * number, forces=np.ones((len(atoms), 3)))
        for number, atoms in enumerate([*crystals, *[silver] * 8])
    ]
    ase.io.write(tmp_path / "silver.xyz", frames)
    arguments = ["train", tmp_path / "silver.xyz", "--from", trained.keras_file]
    arguments += ["-o", tmp_path / "out"]
    refuse(arguments, "Ag", "adapt")
    assert not fitted
    refuse([*arguments, "--baseline", "adapt"], "stopped by the test")
    assert fitted["model"].normalization.seen.numpy()[47] == 1
