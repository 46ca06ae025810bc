import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

import tfpes
from tfpes.cli import app
from tfpes.training.epoch_lines import EpochLines

QUICK = ["--epochs", "1", "--channels", "8", "--blocks", "1", "--batch-size", "4"]
OUTPUTS = {
    "config.json",
    "error_by_size.png",
    "learning_curves.png",
    "metrics.json",
    "model.keras",
    "parity.png",
    "saved_model",
}


def labelled(atoms):
    atoms.calc = EMT()
    results = {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    frames = []
    for number in range(24):
        atoms = bulk(("Cu", "Au")[number % 2], cubic=True) * (1, 1, 1 + number % 3)
        atoms.rattle(0.1, rng=rng)
        frames.append(labelled(atoms))
    return frames


@pytest.fixture
def data(frames, tmp_path):
    path = tmp_path / "data.xyz"
    ase.io.write(path, frames)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def assert_fails(result, *texts):
    """One clear sentence on stderr, and exit code 1."""
    assert result.exit_code == 1, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("Error:")
    for text in texts:
        assert text in message


@pytest.fixture(scope="module")
def finished(frames, tmp_path_factory):
    """A complete run, for the tests that only look at it."""
    room = tmp_path_factory.mktemp("run")
    ase.io.write(room / "data.xyz", frames)
    result = run(room / "data.xyz", "-o", room / "out", *QUICK)
    assert result.exit_code == 0, result.output
    return room, result


def test_a_run_writes_what_it_promises(finished):
    room, result = finished
    assert {path.name for path in (room / "out").iterdir()} == OUTPUTS
    for picture in (room / "out").glob("*.png"):
        assert picture.stat().st_size > 5000
    assert "Errors on 2 test structures" in result.output
    assert "kappa" in result.output  # the adapt report
    config = json.loads((room / "out/config.json").read_text())
    assert config["options"]["epochs"] == 1
    assert config["structures"] == {"train": 19, "valid": 3, "test": 2}


def test_metrics_are_those_of_the_saved_model(finished):
    room, _ = finished
    metrics = json.loads((room / "out/metrics.json").read_text())
    structures = tfpes.data.read(room / "data.xyz", 5.0, verbose=False)
    test = structures.split((0.8, 0.1, 0.1), 0, cover_elements=True)[2]
    calculator = tfpes.Calculator(room / "out/saved_model")
    frames = ase.io.read(room / "data.xyz", ":")
    errors, squares = [], []
    for energy in test.energy:
        atoms = next(a for a in frames if a.get_potential_energy() == energy)
        forces = atoms.get_forces()
        copy = atoms.copy()
        copy.calc = calculator
        errors.append(abs(copy.get_potential_energy() - energy) / len(atoms))
        squares.append(((copy.get_forces() - forces) ** 2).ravel())
    overall = metrics["test"]["overall"]
    assert overall["energy_mae"] == pytest.approx(np.mean(errors), abs=1e-6)
    rmse = np.sqrt(np.mean(np.concatenate(squares)))
    assert overall["force_rmse"] == pytest.approx(rmse, abs=1e-5)
    by_size = metrics["test"]["by_size"]
    assert sum(row["structures"] for row in by_size) == overall["structures"]


def test_a_run_is_not_overwritten(finished):
    room, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (room / "out").rglob("*")}
    result = run(room / "data.xyz", "-o", room / "out", *QUICK)
    assert_fails(result, "must be a new or empty folder", "--overwrite")
    assert before == {p: p.stat().st_mtime_ns for p in (room / "out").rglob("*")}


@pytest.fixture
def parts(monkeypatch):
    """Stop runs when the training would start, and return what it would use."""
    seen = {}

    def stop(options, model, parts, *rest):
        seen.update(parts)
        raise FloatingPointError("stopped by the test")

    monkeypatch.setattr("tfpes.training.run.fit", stop)
    return seen


def test_default_folder_is_a_new_one_each_time(data, tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/data-1").mkdir(parents=True)
    assert_fails(run(data), "stopped by the test")
    assert (tmp_path / "runs/data-2/config.json").is_file()
    assert not any((tmp_path / "runs/data-1").iterdir())


def test_fewer_structures_than_a_batch(frames, tmp_path, without_xla):
    ase.io.write(tmp_path / "few.xyz", frames[:8:2])
    result = run(
        tmp_path / "few.xyz", "-o", tmp_path / "out", *QUICK[:-1], "64", "--overwrite"
    )
    assert result.exit_code == 0, result.output
    ase.io.write(tmp_path / "two.xyz", frames[:2])
    result = run(tmp_path / "two.xyz", "-o", tmp_path / "out2", *QUICK)
    assert_fails(result, "at least one structure", "Received: 2 structures")
    assert not (tmp_path / "out2").exists()


def test_missing_file(tmp_path):
    result = run(tmp_path / "nothing.xyz", "-o", tmp_path / "out", *QUICK)
    assert_fails(result, "needs a file that exists", "nothing.xyz")
    assert not (tmp_path / "out").exists()


def test_energies_under_another_name(frames, tmp_path, parts):
    path = tmp_path / "named.xyz"
    renamed = []
    for atoms in frames:
        copy = atoms.copy()
        copy.info["dft_energy"] = atoms.get_potential_energy()
        copy.arrays["dft_forces"] = atoms.get_forces()
        renamed.append(copy)
    ase.io.write(path, renamed)
    assert_fails(
        run(path, "-o", tmp_path / "out", *QUICK),
        "needs an energy under the name 'energy'",
        "dft_energy",
        "--energy-key",
    )
    keys = ["--energy-key", "dft_energy", "--forces-key", "dft_forces"]
    assert_fails(run(path, "-o", tmp_path / "out", *keys), "stopped by the test")
    energies = np.concatenate([part.energy for part in parts.values()])
    expected = [atoms.get_potential_energy() for atoms in frames]
    np.testing.assert_array_equal(np.sort(energies), np.sort(expected))
    assert np.isfinite(parts["train"].forces).all()


def test_infinite_label(frames, tmp_path):
    copy = [atoms.copy() for atoms in frames]
    for atoms, original in zip(copy, frames, strict=True):
        results = dict(original.calc.results)
        atoms.calc = SinglePointCalculator(atoms, **results)
    copy[7].calc.results["energy"] = np.inf
    ase.io.write(tmp_path / "inf.xyz", copy)
    result = run(tmp_path / "inf.xyz", "-o", tmp_path / "out", *QUICK)
    assert_fails(result, "structure 7", "infinite energy")


def test_structure_without_atoms(frames, tmp_path):
    text = "0\nProperties=species:S:1:pos:R:3 energy=-1.0\n"
    ase.io.write(tmp_path / "data.xyz", frames[:3])
    with (tmp_path / "data.xyz").open("a") as file:
        file.write(text)
    result = run(tmp_path / "data.xyz", "-o", tmp_path / "out", *QUICK)
    assert_fails(result, "structure 3", "at least one atom")


def test_atoms_on_top_of_each_other(frames, tmp_path):
    atoms = frames[0].copy()
    atoms.positions[1] = atoms.positions[0]
    atoms.calc = SinglePointCalculator(atoms, energy=0.0)
    ase.io.write(tmp_path / "data.xyz", [*frames[:3], atoms])
    result = run(tmp_path / "data.xyz", "-o", tmp_path / "out", *QUICK)
    assert_fails(result, "at least 0.1 Å apart", "structure 3", "atoms 0 and 1")


def test_element_only_in_validation(frames, data, tmp_path):
    ase.io.write(tmp_path / "silver.xyz", labelled(bulk("Ag", cubic=True)))
    result = run(
        data, "--valid", tmp_path / "silver.xyz", "-o", tmp_path / "out", *QUICK
    )
    assert_fails(result, "Cu, Au", "`--valid` with Ag")


def test_rare_element_is_moved_to_training(frames, tmp_path, parts):
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(21)
        if 20 in order[-4:]:
            break
    silver = labelled(bulk("Ag", cubic=True))
    ase.io.write(tmp_path / "data.xyz", [*frames[:20], silver])
    result = run(tmp_path / "data.xyz", "-o", tmp_path / "out", "--seed", seed)
    assert_fails(result, "stopped by the test")
    assert "1 structure(s) hold elements that no other" in result.output
    assert 47 in parts["train"].elements


def test_isolated_atoms_are_left_out_and_reported(frames, tmp_path, parts):
    atom = ase.Atoms("Cu", calculator=None)
    atom.calc = SinglePointCalculator(atom, energy=3.5, forces=np.zeros((1, 3)))
    ase.io.write(tmp_path / "data.xyz", [atom, *frames])
    result = run(tmp_path / "data.xyz", "-o", tmp_path / "out")
    assert_fails(result, "stopped by the test")
    assert "1 isolated atom(s) in `data` are left out" in result.output
    assert sum(len(part) for part in parts.values()) == len(frames)
    ase.io.write(tmp_path / "atom.xyz", [atom] * 5)
    result = run(tmp_path / "atom.xyz", "-o", tmp_path / "out2", *QUICK)
    assert_fails(result, "5 isolated atoms")


def test_nan_loss_stops_and_names_the_batch(data, tmp_path, without_xla):
    result = run(data, "-o", tmp_path / "out", *QUICK, "--learning-rate", "1e30")
    assert_fails(result, "The loss must be finite", "epoch 1, batch", "learning rate")


def test_interrupt_keeps_what_was_learned(data, tmp_path, monkeypatch, without_xla):
    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(EpochLines, "on_epoch_end", interrupt)
    result = run(data, "-o", tmp_path / "out", *QUICK)
    assert result.exit_code == 130
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "model.keras", "saved_model", "metrics.json", "parity.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--metric", "rmse"], "`metric` must be one of"),
        (["--network", "mlp"], "`--network` must be one of schnet, painn. Received"),
        (["--epochs", "1", "--minutes", "1"], "Received: both"),
        (["--cutoff", "-1"], "`--cutoff` must be positive"),
        (["--size-law", "sqrt"], "`size_law`"),
        (["--forces-weight", "-1"], "must not be negative"),
        (["--minutes", "0"], "positive"),
    ],
)
def test_bad_options(data, tmp_path, arguments, text):
    result = run(data, "-o", tmp_path / "out", *arguments)
    assert_fails(result, text)
    assert not (tmp_path / "out").exists()
