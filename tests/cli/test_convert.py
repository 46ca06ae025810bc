"""``tfpes convert``: from files to a folder that all commands take."""

import json
import signal
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase.db import connect

import tfpes
from tfpes.data.folder import COLUMNS
from tfpes.data.packed import labelled, packed_labels
from tfpes.layers import PESNormalization

CUTOFF = 4.0


@pytest.fixture(scope="module")
def files(crystals, tmp_path_factory):
    """Return two files of crystals, the second one a real `.aselmdb`."""
    room = tmp_path_factory.mktemp("files")
    ase.io.write(room / "one.xyz", crystals[:5])
    with connect(room / "two.aselmdb") as database:
        for atoms in crystals[5:]:
            database.write(atoms)
    return room / "one.xyz", room / "two.aselmdb"


@pytest.fixture(scope="module")
def folder(run, files, tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / "set"
    run("convert", *files, "-o", path, "--cutoff", CUTOFF)
    return path


def test_aselmdb(crystals, tmp_path):
    with connect(tmp_path / "data.aselmdb") as database:
        for atoms in crystals:
            database.write(atoms)
    found = tfpes.data.read(tmp_path / "data.aselmdb", CUTOFF, verbose=False)
    expected = tfpes.data.read(crystals, CUTOFF, verbose=False)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_aselmdb_needs_a_package(tmp_path, monkeypatch):
    (tmp_path / "data.aselmdb").write_bytes(b"anything")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tfpes\[lmdb\]'"):
        tfpes.data.read(tmp_path / "data.aselmdb", CUTOFF)


def test_folder_is_what_is_read(folder, files, crystals):
    opened = tfpes.data.open(folder)
    read = tfpes.data.read(files, CUTOFF, verbose=False)
    assert repr(opened) == repr(read)
    for name in ("positions", "energy", "forces", "virial", "atom_offsets", "cell"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(read, name))
    assert not opened.has_edges
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_statistics_are_those_of_the_files(run, folder, files, tmp_path):
    """Gathered when converting, by file."""
    options = ["--cutoff", CUTOFF, "--size-law", "independent", "--save"]
    run("stats", folder, *options, tmp_path / "a.json", "-o", tmp_path / "a")
    run("stats", *files, *options, tmp_path / "b.json", "-o", tmp_path / "b")
    found, expected = (
        PESNormalization.from_json(tmp_path / f"{name}.json").statistics
        for name in "ab"
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, err_msg=name)
    # A part of the folder, and a damaged file, are not taken for the whole.
    part = tfpes.data.open(folder)[:4]
    adapted = tfpes.training.statistics.adapt(part, ("energy", "forces"))
    expected = PESNormalization()
    expected.adapt(tfpes.data.read(files, CUTOFF, verbose=False)[:4].batches(4))
    for name in ("energy_mean", "energy_variance", "force_scale"):
        a, b = adapted.statistics[name], expected.statistics[name]
        np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=name)


def test_labels_that_are_missing_are_counted(run, crystals, tmp_path, monkeypatch):
    """Those of a whole file, of a part of one, and not those of no file."""
    monkeypatch.setattr("tfpes.data.convert._PART", 2)
    frames = [atoms.copy() for atoms in crystals]
    for number, (atoms, crystal) in enumerate(zip(frames, crystals, strict=True)):
        atoms.info["energy"] = crystal.get_potential_energy()
        if number < 2:
            atoms.arrays["forces"] = crystal.get_forces()
    files = [tmp_path / "one.xyz", tmp_path / "two.xyz"]
    for file, some in zip(files, (frames[:5], frames[5:]), strict=True):
        ase.io.write(file, some)
    for number, used in enumerate((files, files[1:])):
        run("convert", *used, "-o", tmp_path / f"{number}", "--cutoff", CUTOFF)
        opened = tfpes.data.open(tmp_path / f"{number}")
        found = tfpes.training.statistics.adapt(opened, ())
        read = tfpes.data.read(used, CUTOFF, verbose=False)
        expected = PESNormalization()
        expected.adapt(packed_labels(read, labelled(read)))
        assert found.report.as_dict() == expected.report.as_dict()
        forces = found.report.as_dict().get("forces")
        missing = None if number else sum(map(len, frames[2:]))
        assert (forces and forces["missing"]) == missing


@pytest.mark.slow
def test_a_kill_loses_the_file_in_work_alone(run, crystals, tmp_path, monkeypatch):
    """The next call goes on with it, and what comes out is as if nothing was."""
    files = [tmp_path / "one.xyz", tmp_path / "two.xyz"]
    ase.io.write(files[0], crystals)
    ase.io.write(files[1], crystals * 25)
    words = ["convert", *files, "--cutoff", CUTOFF, "-o"]
    command = [sys.executable, "-m", "tfpes", *map(str, words), tmp_path / "set"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert any("1/2" in line for line in process.stderr)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    converted = []
    one = tfpes.cli.convert.convert

    def convert(file, *arguments, **options):
        converted.append(file)
        one(file, *arguments, **options)

    monkeypatch.setattr("tfpes.cli.convert.convert", convert)
    assert "1 of 2 files were done before" in run(*words, tmp_path / "set").stderr
    assert converted == [str(files[1])]
    run(*words, tmp_path / "other")
    names = [sorted(p.name for p in (tmp_path / x).iterdir()) for x in ("set", "other")]
    assert names[0] == names[1]
    for name in names[0]:
        if name != "statistics.npz":
            a, b = ((tmp_path / x / name).read_bytes() for x in ("set", "other"))
            assert a == b, name
    found, expected = (
        np.load(tmp_path / x / "statistics.npz") for x in ("set", "other")
    )
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["one.xyz", "other", "set", "two.xyz"]


def test_whole_folders_are_not_gone_through_again(folder, monkeypatch):
    """A part of it is, and one with other weights."""
    adapt, labels = tfpes.training.statistics.adapt, ("energy", "forces")
    opened = tfpes.data.open(folder)
    weight = np.linspace(0.5, 2.0, len(opened))
    found = adapt(opened.with_weight(weight), labels).statistics
    expected = adapt(opened[:].take(np.arange(len(opened))).with_weight(weight), labels)
    np.testing.assert_array_equal(found["energy_mean"], expected.energy_mean)
    stored = adapt(opened, labels).statistics
    assert not np.allclose(stored["energy_mean"], found["energy_mean"])
    monkeypatch.delattr("tfpes.training.statistics.packed_labels")
    np.testing.assert_array_equal(
        adapt(opened, labels).statistics["energy_mean"], stored["energy_mean"]
    )
    for other in (opened[1:], opened.with_weight(weight)):
        with pytest.raises(NameError, match="packed_labels"):
            adapt(other, labels)


def test_only_structures_are_replaced(refuse, files, crystals, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    text = "takes the place of nothing but such a folder"
    words = ["convert", *files, "-o", tmp_path / "mine", "--overwrite"]
    refuse(words, text)
    structures = tfpes.data.read(files, CUTOFF, verbose=False)
    for name in ("mine", "mine/thesis.tex"):
        with pytest.raises(FileExistsError, match=text):
            structures.save(tmp_path / name)
    assert (tmp_path / "mine/thesis.tex").read_text() == "mine"
    structures.save(tmp_path / "new")
    structures[:2].save(tmp_path / "new")
    assert len(tfpes.data.open(tmp_path / "new")) == 2


def test_a_file_that_cannot_be_read_loses_no_other(run, refuse, files, tmp_path):
    bad = tmp_path / "bad.xyz"
    bad.write_text("3\n\nH 0 0 0\n")
    words = ["convert", *files, bad, "-o", tmp_path / "set", "--cutoff", CUTOFF]
    refused = refuse(words, "1 of 3 that are not", str(bad), "the others are done")
    assert "ends after 1 atoms" in " ".join(refused.stderr.split())
    assert not (tmp_path / "set").exists()
    # Another cutoff is other work.
    bad.write_text("2\nenergy=-1.0\nH 0 0 0\nH 0 0 0.75\n")
    again = run(*words)
    assert "2 of 3 files were done before" in again.stderr
    assert len(tfpes.data.open(tmp_path / "set")) == 9
    assert not (tmp_path / ".set.parts").exists()
    refuse(words, "must be a new or empty folder")


def test_labels_have_one_name_in_a_file(refuse, crystals, tmp_path, monkeypatch):
    monkeypatch.setattr("tfpes.data.convert._PART", 2)
    frames = [crystals[n].copy() for n in range(4)]
    for number, atoms in enumerate(frames):
        atoms.info["energy" if number < 2 else "REF_energy"] = -1.0 - number
    ase.io.write(tmp_path / "mixed.xyz", frames)
    words = ["convert", tmp_path / "mixed.xyz", "-o", tmp_path / "set"]
    text = "'REF_energy'. Name one with `--energy-key`."
    assert text in " ".join(refuse(words).stderr.split())
    words += ["--energy-key", "REF_energy", "--forces-key", "dft"]
    refused = refuse(words, "are not").stderr
    assert "none of 4 structures" in " ".join(refused.split())


@pytest.mark.slow
def test_commands_take_a_folder(run, folder, trained, files, tmp_path):
    parts = [
        run("evaluate", trained.keras_file, *data, "-o", tmp_path / name)
        and json.loads((tmp_path / name / "errors.json").read_text())
        for name, data in (("folder", [folder]), ("files", files))
    ]
    found, expected = (list(_numbers(part)) for part in parts)
    assert len(expected) > 20
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    page = tmp_path / "page.html"
    run("diagnose", folder, "--cutoff", CUTOFF, "-o", page)
    assert page.exists()


def _numbers(part):
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict | list):
            yield from _numbers(value)
        elif isinstance(value, int | float):
            yield value


def test_training_on_a_folder(refuse, folder, fitted, tmp_path):
    words = ["train", folder, "--valid", folder, "--test", folder, "--epochs", 1]
    refuse([*words, "--cutoff", CUTOFF, "-o", tmp_path / "run"], "stopped by the test")
    assert all(part.is_mapped for part in fitted.values() if hasattr(part, "is_mapped"))
    assert len(fitted["train"]) == 8
    refuse([*words, "-o", tmp_path / "other"], "one cutoff", "Pass `--cutoff 4`")
