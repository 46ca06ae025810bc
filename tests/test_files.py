import errno
import json
import os
import pathlib

import keras
import matplotlib.pyplot as plt
import pytest

from tfpes.callbacks.best_model import save_model
from tfpes.files import (
    create,
    listing,
    made_folder,
    new_file,
    replacing,
    replacing_folder,
    write_json,
)
from tfpes.plotting import save_figure


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"Å": 1.0})
    assert json.loads(path.read_text(encoding="utf-8")) == {"Å": 1.0}

    def break_off():
        with replacing(path) as unfinished:
            assert unfinished.suffix == ".json"
            unfinished.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"Å": 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_new_file(tmp_path):
    path = tmp_path / "x"
    assert new_file(str(path), overwrite=False) == path
    path.touch()
    assert new_file(str(path), overwrite=True) == path
    with pytest.raises(FileExistsError, match=r"`--save` must be a new file.*--over"):
        new_file(str(path), overwrite=False, option="--save")
    with pytest.raises(FileExistsError, match="`--output` must be the name of a file"):
        new_file(str(tmp_path), overwrite=True)


def test_made_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # They are there from the start: nobody else takes the same.
    with made_folder(None, False, "cu") as one, made_folder(None, False, "cu") as two:
        assert [str(one), str(two)] == ["runs/cu-1", "runs/cu-2"]
        assert one.is_dir()
        for name in ("b", "a", ".lock"):
            (two / name).touch()
    assert listing(two) == "Written to runs/cu-2/:\n  a\n  b"
    for path, overwrite in (("runs/cu-1", False), ("runs/cu-2", True)):
        with made_folder(path, overwrite, "cu") as folder:
            assert folder == pathlib.Path(path)
    for path, overwrite, message in (
        ("runs/cu-2", False, r"new or empty folder.*'runs/cu-2'"),
        ("runs/cu-2/a", True, r"must be a folder.*a file"),
    ):
        with (
            pytest.raises(FileExistsError, match=message),
            made_folder(path, overwrite, "cu"),
        ):
            pass


def test_another_process_was_faster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mkdir = pathlib.Path.mkdir

    def late(self, *arguments, **options):
        if self.name == "cu-1":
            os.makedirs(self, exist_ok=True)
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "mkdir", late)
    with made_folder(None, False, "cu") as folder:
        assert str(folder) == "runs/cu-2"


@pytest.mark.parametrize("path", [None, "far/away"])
def test_a_folder_without_anything_goes_again(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt), made_folder(path, False, "cu"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())

    def fail():
        with made_folder(path, False, "cu") as folder:
            (folder / "log").touch()
            raise OSError("x")

    with pytest.raises(OSError, match="x"):
        fail()
    assert list(tmp_path.rglob("log"))


# -- folders ------------------------------------------------------------------------


def write_folder(path, text, error=None):
    with replacing_folder(path) as folder:
        folder.mkdir()
        (folder / text).write_text(text)
        if error:
            raise error


def test_a_made_folder_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "new" / "folder" / "model"
    for text in ("first", "second"):
        write_folder(path, text)
        assert [p.name for p in path.iterdir()] == [text]
        assert [p.name for p in path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("moment", ["writing", "moving"])
def test_a_full_disk_leaves_the_old_folder(tmp_path, monkeypatch, moment):
    path = tmp_path / "model"
    write_folder(path, "first")
    replace, full = os.replace, OSError(errno.ENOSPC, "No space left on device")

    def fail(source, target):
        if target == path and "replaced" not in str(source):
            raise full
        replace(source, target)

    if moment == "moving":
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left on device"):
        write_folder(path, "second", full if moment == "writing" else None)
    assert [p.name for p in path.iterdir()] == ["first"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def victim(tmp_path):
    """A file outside of a folder in which links point to it."""
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    yield victim
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_not_followed(victim, tmp_path, link):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.json", ".a.unfinished.json", "log.csv"):
        link(victim, folder / name)
    write_json(folder / "a.json", {"x": 1})
    assert json.loads((folder / "a.json").read_text()) == {"x": 1}
    with create(folder / "log.csv") as file:
        file.write("1")
    assert (folder / "log.csv").read_text() == "1"
    assert not any(path.is_symlink() for path in folder.iterdir())


def _figure(path):
    save_figure(plt.figure(), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("metrics.json", lambda path: write_json(path, {})),
        ("parity.png", _figure),
        (
            "model.keras",
            lambda path: save_model(
                keras.Sequential([keras.Input((1,)), keras.layers.ReLU()]), path
            ),
        ),
    ],
)
def test_no_file_of_a_run_is_written_through_a_link(victim, tmp_path, name, write):
    """A new file is made beside the old one: its name cannot point elsewhere."""
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / name
    for link in (path, path.with_name(f".{path.stem}.unfinished{path.suffix}")):
        os.symlink(victim, link)
    write(path)
    assert [p.name for p in folder.iterdir()] == [name]
    assert path.is_file()
    assert not path.is_symlink()


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with (
        pytest.raises(OSError, match=r"No space left.*previous one is intact.*a\.json"),
        replacing(path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"
