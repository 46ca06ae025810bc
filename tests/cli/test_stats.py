import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

import tfpes
from tfpes.cli import app
from tfpes.layers import PESNormalization

PICTURES = {"elements.png", "size_law.png", "standardized_energy.png"}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_fails(result, *texts):
    """One clear sentence on stderr, and exit code 1."""
    assert result.exit_code == 1, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("Error:")
    for text in texts:
        assert text in message


def crystal(rng, number, energy="energy", **extra):
    atoms = bulk(("Cu", "Au")[number % 2], cubic=True) * (1, 1, 1 + number % 3)
    results = {
        "energy": -3.0 * len(atoms) + rng.normal(),
        "forces": rng.normal(size=(len(atoms), 3)),
        **extra,
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    ase.io.write(tmp_path / "data.xyz", [crystal(rng, n) for n in range(20)])
    return tmp_path / "data.xyz"


@pytest.fixture
def stats(data, tmp_path):
    """Return a file of statistics of the data."""
    norm = PESNormalization()
    norm.adapt(tfpes.data.read(data, 5.0, verbose=False).batches(8))
    norm.to_json(tmp_path / "stats.json")
    return tmp_path / "stats.json"


def test_report_pictures_and_file(data, tmp_path):
    save = tmp_path / "new" / "stats.json"
    result = run("stats", data, "-o", tmp_path / "out", "--save", save)
    assert result.exit_code == 0, result.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == PICTURES | {"report.json"}
    for picture in (tmp_path / "out").glob("*.png"):
        assert picture.stat().st_size > 5000
    assert "20 used of 20" in result.output
    assert "log-likelihood collective" in result.output
    norm = PESNormalization(size_law="auto")
    norm.adapt(tfpes.data.read(data, 5.0, verbose=False).batches(64))
    saved = PESNormalization.from_json(save)
    for weight in ("energy_mean", "energy_variance", "force_scale", "seen"):
        expected = getattr(norm, weight).numpy()
        np.testing.assert_array_equal(getattr(saved, weight).numpy(), expected)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report == norm.report.as_dict()


def test_default_folder_is_a_new_one_each_time(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/data-stats-1").mkdir(parents=True)
    assert run("stats", data).exit_code == 0
    assert (tmp_path / "runs/data-stats-2/size_law.png").is_file()
    assert not any((tmp_path / "runs/data-stats-1").iterdir())


@pytest.mark.parametrize(
    "case", ["one structure", "one size", "linear", "energies only", "virials"]
)
def test_odd_data_can_be_drawn(tmp_path, case):
    rng = np.random.default_rng(1)
    extra = {"stress": rng.normal(size=6)} if case == "virials" else {}
    frames = [crystal(rng, n, **extra) for n in range(12)]
    if case == "one structure":
        frames = frames[:1]
    elif case == "one size":
        frames = frames[::3]
    for atoms in frames:
        results = atoms.calc.results
        if case == "linear":
            results["energy"] = -3.0 * len(atoms)
        if case == "energies only":
            del results["forces"]
    ase.io.write(tmp_path / "data.xyz", frames)
    result = run("stats", tmp_path / "data.xyz", "-o", tmp_path / "out", "--robust")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} > PICTURES


def test_nothing_is_overwritten(data, stats, tmp_path):
    folder, before = tmp_path / "out", stats.read_text()
    assert_fails(
        run("stats", data, "-o", folder, "--save", stats),
        "`--save` must be a new file",
        "`--overwrite`",
    )
    assert_fails(
        run("stats", data, "-o", folder, "--save", tmp_path),
        "`--save` must be the name of a file",
    )
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert_fails(run("stats", data, "-o", folder), "must be a new or empty folder")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert stats.read_text() == before
    result = run("stats", data, "-o", folder, "--save", stats, "--overwrite")
    assert result.exit_code == 0
    assert stats.read_text() != before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cutoff", "0"], "`--cutoff` must be positive"),
        (["--size-law", "sqrt"], "`size_law` must be one of"),
        (["--energy-key", "dft"], "needs an energy under the name 'dft'"),
    ],
)
def test_bad_options(data, tmp_path, arguments, text):
    assert_fails(run("stats", data, "-o", tmp_path / "out", *arguments), text)
    assert not (tmp_path / "out").exists()


# -- training with them ---------------------------------------------------------------


@pytest.fixture
def model(monkeypatch):
    """Stop runs when the training would start, and return the model."""
    seen = []

    def stop(options, model, parts, *rest):
        seen.append(model)
        raise FloatingPointError("stopped by the test")

    monkeypatch.setattr("tfpes.training.run.fit", stop)
    return seen


def test_training_uses_the_statistics(data, stats, tmp_path, model):
    content = json.loads(stats.read_text())
    content["elements"]["Cu"]["energy_mean"] = -2.0
    stats.write_text(json.dumps(content))
    result = run("train", data, "-o", tmp_path / "out", "--stats", stats)
    assert_fails(result, "stopped by the test")
    assert model[0].normalization.energy_mean.numpy()[29] == -2.0
    options = json.loads((tmp_path / "out/config.json").read_text())["options"]
    assert options["stats"] == str(stats)


def test_a_whole_run(data, stats, tmp_path, without_xla):
    content = json.loads(stats.read_text()) | {"report": None}
    stats.write_text(json.dumps(content))
    quick = ["--epochs", "1", "--channels", "4", "--blocks", "1"]
    result = run("train", data, "-o", tmp_path / "out", "--stats", stats, *quick)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["statistics"] is None


def test_the_size_law_is_that_of_the_file(data, stats, tmp_path, model):
    arguments = ["train", data, "-o", tmp_path / "out", "--stats", stats]
    for law in ("auto", "collective"):  # the default as well, if asked for
        assert_fails(
            run(*arguments, "--size-law", law),
            "With `--stats`, the size law is that of the file",
        )
    assert not (tmp_path / "out").exists()
    assert not model


def test_statistics_that_lack_an_element(stats, tmp_path, model):
    silver = crystal(np.random.default_rng(0), 0)
    silver.numbers[0] = 47
    ase.io.write(tmp_path / "silver.xyz", [silver] * 10)
    result = run("train", tmp_path / "silver.xyz", "--stats", stats)
    assert_fails(result, "must cover the elements of the data", "without Ag")


def test_statistics_without_forces(data, tmp_path, model):
    norm = PESNormalization()
    structures = tfpes.data.read(data, 5.0, verbose=False)
    norm.adapt(structures.batches(8, labels=("energy",)))
    norm.to_json(tmp_path / "energies.json")
    arguments = ["train", data, "-o", tmp_path / "x", "--stats"]
    assert_fails(
        run(*arguments, tmp_path / "energies.json"), "made of data without forces"
    )


def test_file_of_another_kind(data, tmp_path, model):
    (tmp_path / "x.json").write_text("{}")
    result = run("train", data, "-o", tmp_path / "x", "--stats", tmp_path / "x.json")
    assert_fails(result, "tfpes.statistics")
    result = run("train", data, "-o", tmp_path / "x", "--stats", tmp_path / "y.json")
    assert_fails(result, "a file that exists")
