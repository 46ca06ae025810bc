import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

import tfpes
from tfpes.layers import PESNormalization

PICTURES = {"elements.png", "size_law.png", "standardized_energy.png"}


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


def test_report_pictures_and_file(run, data, tmp_path):
    save, out = tmp_path / "new" / "stats.json", tmp_path / "out"
    result = run("stats", data, "-o", out, "--save", save)
    assert {path.name for path in out.iterdir()} == PICTURES | {"report.json"}
    for picture in out.glob("*.png"):
        assert picture.stat().st_size > 5000
    assert "20 used of 20" in result.output
    assert "log-likelihood collective" in result.output
    norm = PESNormalization(size_law="auto")
    structures = tfpes.data.read(data, 5.0, verbose=False)
    norm.adapt(structures.batches(64))
    saved = PESNormalization.from_json(save)
    for weight in ("energy_mean", "energy_variance", "force_scale", "seen"):
        expected = getattr(norm, weight).numpy()
        found = getattr(saved, weight).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    norm.adapt(tfpes.data.packed_labels(structures))
    assert json.loads((out / "report.json").read_text()) == norm.report.as_dict()


@pytest.mark.slow
def test_files_are_read_by_several_processes_without_neighbours(
    run, data, tmp_path, monkeypatch
):
    """Statistics are those of one process; a single atom in a cell is not alone."""
    monkeypatch.setattr(
        "tfpes.data.neighbours.vesin.NeighborList", lambda **_: pytest.fail("searched")
    )
    rng = np.random.default_rng(1)
    more = [crystal(rng, n) for n in range(1, 9)]
    ase.io.write(tmp_path / "more.xyz", more)
    files = [data, tmp_path / "more.xyz", data]
    found = []
    for jobs in (1, 2):
        save = tmp_path / f"{jobs}.json"
        out = tmp_path / f"out{jobs}"
        result = run("stats", *files, "--jobs", jobs, "-o", out, "--save", save)
        assert "48 structures" in result.output
        found.append(PESNormalization.from_json(save))
    for name, values in found[0].statistics.items():
        np.testing.assert_allclose(found[1].statistics[name], values, rtol=1e-12)


def test_one_atom_in_a_cell_is_not_isolated(labelled):
    """Also where no other structure has neighbour lists."""
    frames = [labelled(bulk("Cu"), energy=-3.0), labelled(Atoms("Cu"), energy=0.0)]
    read = tfpes.data.read(frames, 5.0, neighbours=False, verbose=False)
    assert read.isolated_atoms.tolist() == [False, True]
    pair = labelled(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]]), energy=0.0)
    read = tfpes.data.read([pair], 5.0, neighbours=False, verbose=False)
    assert read.edge_index.shape == (2, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["one structure", "one size", "linear", "energies only", "virials"]
)
def test_odd_data_can_be_drawn(run, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
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
    ase.io.write("data.xyz", frames)
    # The default folder is a new one each time.
    (tmp_path / "runs/data-stats-1").mkdir(parents=True)
    run("stats", "data.xyz", "--robust")
    folder = tmp_path / "runs/data-stats-2"
    assert {path.name for path in folder.iterdir()} > PICTURES
    assert not any((tmp_path / "runs/data-stats-1").iterdir())


def test_nothing_is_overwritten(run, refuse, data, stats, tmp_path):
    folder, before = tmp_path / "out", stats.read_text()
    arguments = ["stats", data, "-o", folder]
    refuse(
        [*arguments, "--save", stats], "`--save` must be a new file", "`--overwrite`"
    )
    refuse([*arguments, "--save", tmp_path], "`--save` must be the name of a file")
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    refuse(arguments, "must be a new or empty folder")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert stats.read_text() == before
    run(*arguments, "--save", stats, "--overwrite")
    assert stats.read_text() != before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cutoff", "0"], "`--cutoff` must be positive"),
        (["--energy-key", "dft"], "'dft', under which none of"),
    ],
)
def test_bad_options(refuse, data, tmp_path, arguments, text):
    refuse(["stats", data, "-o", tmp_path / "out", *arguments], text)
    assert not (tmp_path / "out").exists()


# -- training with them ---------------------------------------------------------------


@pytest.fixture
def train(data, stats, tmp_path):
    """Return the arguments of a run with these statistics."""
    return ["train", data, "-o", tmp_path / "out", "--stats", stats]


def test_training_uses_the_statistics(refuse, train, stats, tmp_path, fitted):
    content = json.loads(stats.read_text())
    content["elements"]["Cu"]["energy_mean"] = -2.0
    stats.write_text(json.dumps(content))
    refuse(train, "stopped by the test")
    assert fitted["model"].normalization.energy_mean.numpy()[29] == -2.0
    options = json.loads((tmp_path / "out/config.json").read_text())["options"]
    assert options["stats"] == str(stats)


@pytest.mark.parametrize("law", ["auto", "collective"])
def test_the_size_law_is_that_of_the_file(refuse, train, tmp_path, fitted, law):
    """Also the default one, if asked for."""
    text = "With `--stats`, the size law is that of the file"
    refuse([*train, "--size-law", law], text)
    assert not (tmp_path / "out").exists()
    assert not fitted


def test_statistics_that_do_not_suit(refuse, data, stats, tmp_path, fitted):
    silver = crystal(np.random.default_rng(0), 0)
    silver.numbers[0] = 47
    ase.io.write(tmp_path / "silver.xyz", [silver] * 10)
    norm = PESNormalization()
    structures = tfpes.data.read(data, 5.0, verbose=False)
    norm.adapt(structures.batches(8, labels=("energy",)))
    norm.to_json(tmp_path / "energies.json")
    (tmp_path / "other.json").write_text("{}")
    for frames, file, *texts in (
        ("silver.xyz", "stats.json", "must cover the elements", "without Ag"),
        ("data.xyz", "energies.json", "made of data without forces"),
        ("data.xyz", "other.json", "tfpes.statistics"),
        ("data.xyz", "absent.json", "a file that exists"),
    ):
        arguments = ["train", tmp_path / frames, "--stats", tmp_path / file]
        refuse([*arguments, "-o", tmp_path / "out"], *texts)
    assert not fitted


def test_weights_for_other_packages(run, data, tmp_path):
    result = run("stats", data, "--peers", "0.5", "-o", tmp_path / "out")
    assert "others with our weights at 0.5 : 1\nmace" in result.output
    assert '"start_pref_e"' in result.output
