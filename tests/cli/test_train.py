import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
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
    "trained_on.json",
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


@pytest.fixture(scope="module")
def finished(run, frames, tmp_path_factory):
    """A complete run, for the tests that only look at it."""
    room = tmp_path_factory.mktemp("run")
    ase.io.write(room / "data.xyz", frames)
    return room, run("train", room / "data.xyz", "-o", room / "out", *QUICK)


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


def test_a_run_is_not_overwritten(refuse, finished):
    room, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (room / "out").rglob("*")}
    arguments = ["train", room / "data.xyz", "-o", room / "out", *QUICK]
    refuse(arguments, "must be a new or empty folder", "--overwrite")
    assert before == {p: p.stat().st_mtime_ns for p in (room / "out").rglob("*")}


def test_default_folder_is_a_new_one_each_time(
    refuse, data, tmp_path, monkeypatch, fitted
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/data-1").mkdir(parents=True)
    refuse(["train", data], "stopped by the test")
    assert (tmp_path / "runs/data-2/config.json").is_file()
    assert not any((tmp_path / "runs/data-1").iterdir())


def test_energies_under_another_name(refuse, frames, tmp_path, fitted):
    renamed = []
    for atoms in frames:
        copy = atoms.copy()
        copy.info["dft_energy"] = atoms.get_potential_energy()
        copy.arrays["dft_forces"] = atoms.get_forces()
        renamed.append(copy)
    ase.io.write(tmp_path / "named.xyz", renamed)
    arguments = ["train", tmp_path / "named.xyz", "-o", tmp_path / "out"]
    for option in ("--energy-key", "--forces-key"):
        texts = f"`{option}`", "'REF'", "names found: dft_energy, dft_forces"
        refuse([*arguments, option, "REF"], *texts)
    # One that is named: the others are found.
    result = refuse([*arguments, "--energy-key", "dft_energy"], "stopped by the test")
    said = " ".join(result.output.split())
    assert "energy (dft_energy) of 24, forces (dft_forces) of 24" in said
    parts = [fitted[name] for name in ("train", "valid", "test")]
    energies = np.concatenate([part.energy for part in parts])
    expected = [atoms.get_potential_energy() for atoms in frames]
    np.testing.assert_array_equal(np.sort(energies), np.sort(expected))
    assert np.isfinite(fitted["train"].forces).all()


def single(energy):
    atom = ase.Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
    return atom


def bad_frames(case, frames):
    if case == "infinite label":
        return [*frames[:7], single(np.inf)]
    if case == "atoms on top of each other":
        atoms = frames[0].copy()
        atoms.positions[1] = atoms.positions[0]
        atoms.calc = SinglePointCalculator(atoms, energy=0.0)
        return [*frames[:3], atoms]
    return {
        "two structures": frames[:2],
        "no atoms": [*frames[:3], ase.Atoms(info={"energy": -1.0})],
        "isolated atoms": [single(3.5)] * 5,
    }[case]


@pytest.mark.parametrize(
    ("case", "texts"),
    [
        ("two structures", ["at least one structure", "Received: 2 structures"]),
        ("infinite label", ["structure 7", "infinite energy"]),
        ("no atoms", ["structure 3", "at least one atom"]),
        (
            "atoms on top of each other",
            ["at least 0.1 Å apart", "structure 3", "atoms 0 and 1"],
        ),
        ("isolated atoms", ["5 isolated atoms"]),
    ],
)
def test_bad_data(refuse, frames, tmp_path, case, texts):
    path = tmp_path / "data.xyz"
    ase.io.write(path, bad_frames(case, frames))
    refuse(["train", path, "-o", tmp_path / "out", *QUICK], *texts)
    assert not (tmp_path / "out").exists()


def test_element_only_in_validation(refuse, data, tmp_path):
    silver = tmp_path / "silver.xyz"
    ase.io.write(silver, labelled(bulk("Ag", cubic=True)))
    refuse(["train", data, "--valid", silver], "Cu, Au", "`--valid` with Ag")


def test_rare_element_is_moved_to_training(refuse, frames, tmp_path, fitted):
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(21)
        if 20 in order[-4:]:
            break
    silver = labelled(bulk("Ag", cubic=True))
    ase.io.write(tmp_path / "data.xyz", [*frames[:20], silver])
    arguments = ["train", tmp_path / "data.xyz", "-o", tmp_path / "out"]
    result = refuse([*arguments, "--seed", seed], "stopped by the test")
    assert "validation and test to training: 1, with" in " ".join(result.output.split())
    assert 47 in fitted["train"].elements


def test_isolated_atoms_are_left_out_and_reported(refuse, frames, tmp_path, fitted):
    ase.io.write(tmp_path / "data.xyz", [single(3.5), *frames])
    arguments = ["train", tmp_path / "data.xyz", "-o", tmp_path / "out"]
    result = refuse(arguments, "stopped by the test")
    said = " ".join(result.output.split())
    assert said.count("1 isolated atom: in no statistics, no loss and no metric") == 1
    used = [len(fitted[name]) for name in ("train", "valid", "test")]
    assert sum(used) == len(frames)


def test_an_element_without_energies_is_left_out(refuse, frames, tmp_path, fitted):
    images = [atoms.copy() for atoms in frames]
    for atoms, image in zip(frames, images, strict=True):
        image.calc = SinglePointCalculator(image, **atoms.calc.results)
    images[0].numbers[:] = 47
    del images[0].calc.results["energy"]
    ase.io.write(tmp_path / "silver.xyz", images)
    result = refuse(
        ["train", tmp_path / "silver.xyz", "-o", tmp_path / "out", *QUICK],
        "stopped by the test",
    )
    said = " ".join(result.output.split())
    assert "train: Left out: 1 of " in said
    assert "with Ag, of which no structure to train on has an energy." in said
    used = [len(fitted[name]) for name in ("train", "valid", "test")]
    assert sum(used) == len(frames) - 1
    assert 47 not in fitted["train"].elements


@pytest.mark.slow
def test_nan_loss_stops_and_names_the_batch(refuse, data, tmp_path, without_xla):
    refuse(
        ["train", data, "-o", tmp_path / "out", *QUICK, "--learning-rate", "1e30"],
        "The loss must be finite",
        "epoch 1, one of the batches 1 to",
        "learning rate",
    )


@pytest.mark.slow
def test_interrupt_keeps_what_was_learned(
    run, frames, tmp_path, monkeypatch, without_xla
):
    """Here with fewer structures than a batch, and statistics without a report."""
    data, stats, out = (tmp_path / name for name in ("few.xyz", "stats.json", "out"))
    ase.io.write(data, frames[:8:2])
    norm = tfpes.layers.PESNormalization()
    norm.adapt(tfpes.data.read(data, 5.0, verbose=False).batches(8))
    norm.to_json(stats)
    stats.write_text(json.dumps(json.loads(stats.read_text()) | {"report": None}))

    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(EpochLines, "on_epoch_end", interrupt)
    arguments = ["train", data, "--stats", stats, "-o", out, *QUICK[:-1], 64]
    result = run(*arguments, code=130)
    assert "--resume" in result.output
    assert {path.name for path in out.iterdir()} >= {
        "model.keras", "saved_model", "metrics.json", "parity.png",
    }  # fmt: skip
    assert json.loads((out / "metrics.json").read_text())["statistics"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epochs", "1", "--minutes", "1"], "Received: both"),
        (["--cutoff", "-1"], "`--cutoff` must be positive"),
        (["--forces-weight", "-1"], "must not be negative"),
        (["--minutes", "0"], "positive"),
        (["--valid", "absent.xyz"], "needs a file that exists"),
        (["--config-weights", "bulk"], "must be names and numbers"),
        (["--config-weights", "bulk=-1"], "must not be negative"),
        (["--config-weights", "bulk=1"], "Received: bulk. `config_type`"),
        (["--weight-key", "w"], "must be a name that a structure has"),
        (["--energies-of-atoms", "Xy=1"], "energies_of_atoms"),
        (["--energies-of-atoms", "H=inf"], "must be names and numbers"),
        (["--ratio", "0"], "one positive number, or two, START:END"),
        (["--ratio", "1:"], "Received: '1:'"),
        (["--ratio", "1:2:3"], "Received: '1:2:3'"),
        (["--ratio", "1:2", "--energy-weight", "3"], "takes the place of"),
        (["--ratio", "1:2", "--forces-weight", "0"], "Leave one out"),
        (["--ema", "1"], "at least 0 and below 1"),
        (["--clip", "0"], "`--clip` must be positive"),
        (["--delta", "2"], "is that of `--metric huber`"),
    ],
)
def test_bad_options(refuse, data, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    refuse(["train", data, "-o", "out", *arguments], text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train", "stats", "md", "diagnose"])
def test_help_tells_every_default(run, command):
    """Rich takes square brackets in a text for a style, and leaves them out."""
    text = " ".join(run(command, "--help").output.replace("│", " ").split())
    for default in {
        "train": ("a new one in runs/", "default: (2)"),
        "diagnose": ("DATA-diagnosis.html",),
    }.get(command, ("a new one in runs/",)):
        assert default in text


@pytest.mark.parametrize(
    "option", ["--metric", "--network", "--size-law", "--from x --baseline"]
)
def test_a_wrong_word_is_refused_before_data_are_read(run, option):
    result = run("train", "missing.xyz", *option.split(), "hubr", code=2)
    assert "'hubr' is not one of" in result.stderr


def test_a_name_that_is_nearly_that_of_a_set(refuse):
    refuse(["train", "molecule"], "Did you mean the data set 'molecules'?")


def test_weights_and_atoms_of_the_file(refuse, frames, tmp_path, fitted):
    """Weights have the mean 1; isolated atoms fix means that are not determined."""
    images = [atoms.copy() for atoms in frames]
    for atoms, labels in zip(images, frames, strict=True):
        atoms.info.update(energy=labels.get_potential_energy(), config_type="liquid")
        atoms.arrays["forces"] = labels.get_forces()
    images[0].info["config_type"] = "bulk"
    images[1].info["config_weight"] = 2.0
    alloys = [atoms for atoms in images if set(atoms.symbols) == {"Cu"}]
    for atoms in alloys:
        atoms.symbols[:] = "CuAu" * (len(atoms) // 2)
    alone = [Atoms(s, info={"energy": e}) for s, e in (("Cu", -1.0), ("Au", -3.0))]
    path = tmp_path / "mixed.xyz"
    ase.io.write(path, [*alloys, *alone])
    command = ["train", path, "-o", tmp_path / "out", "--config-weights", "liquid=3"]
    refuse([*command, *QUICK], "stopped by the test")
    train = fitted["train"]
    assert train.weight.mean() == pytest.approx(1.0)
    assert sorted({w / train.weight.max() for w in train.weight})[-1] == 1.0
    mean = fitted["model"].normalization.energy_mean.numpy()
    assert mean[79] - mean[29] == pytest.approx(-2.0)  # as those of the atoms
    table = ["--energies-of-atoms", "Cu=0,Au=5", "--overwrite"]
    refuse([*command, *table, *QUICK], "stopped by the test")
    found = fitted["model"].normalization.energy_mean.numpy()
    assert found[79] - found[29] == pytest.approx(5.0)
    assert found[79] + found[29] == pytest.approx(mean[79] + mean[29])


def test_a_virial_needs_labels(refuse, tmp_path):
    atoms = [labelled(bulk("Cu", cubic=True)) for _ in range(6)]
    for image in atoms:
        image.calc.results.pop("stress")
    ase.io.write(tmp_path / "data.xyz", atoms)
    command = ["train", tmp_path / "data.xyz", "-o", tmp_path / "out"]
    refuse([*command, "--virial-weight", "1"], "needs labels of the stress")


def test_errors_can_be_traced(data):
    arguments = ["train", str(data), "--cutoff", "0", "--traceback"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ValueError)
