"""Folders of runs: one for each process, and whatever somebody left in them."""

import json
import os
import pathlib

import numpy as np
import pytest

from tfpes.training import Options, resume, train
from tfpes.training import run as run_module
from tfpes.training.fit import CHECKPOINT
from tfpes.training.lock import _LOCK, locked
from tfpes.training.results import RESULTS


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """Set what happens while a run reads its data; then it fails."""
    monkeypatch.chdir(tmp_path)
    during = []

    def read(*arguments):
        if during:
            during.pop()()
        raise ValueError("bad data")

    monkeypatch.setattr(run_module, "_begin", read)
    return during.append


def test_a_run_that_begins_while_another_reads(begin):
    taken = []

    def another():
        taken.extend(pathlib.Path("runs").iterdir())
        begin(lambda: taken.extend(set(pathlib.Path("runs").iterdir()) - set(taken)))
        with pytest.raises(ValueError, match="bad data"):
            train(Options())

    begin(another)
    with pytest.raises(ValueError, match="bad data"):
        train(Options())
    assert list(map(str, taken)) == ["runs/molecules-1", "runs/molecules-2"]
    assert not pathlib.Path("runs").exists()  # nothing came of them


def test_two_runs_with_one_output(begin):
    def another():
        with pytest.raises(BlockingIOError, match="in use by another process"):
            train(Options(output="out"))

    begin(another)
    with pytest.raises(ValueError, match="bad data"):
        train(Options(output="out"))


@pytest.fixture
def folder(tmp_path):
    """Of a run that was stopped, as far as `resume` can tell."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"options": {"data": ["molecules"]}, "fingerprints": {}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"finished', '"x"'])
def test_results_of_something_else(folder, text):
    (folder / RESULTS).write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.json', which is damaged or of"):
        resume(folder)


def test_a_checkpoint_that_a_kill_left_behind_the_end(folder):
    (folder / RESULTS).write_text('{"finished": true}')
    (folder / CHECKPOINT).touch()
    with pytest.raises(ValueError, match="which has finished"):
        resume(folder)
    assert not (folder / CHECKPOINT).exists()


@pytest.mark.parametrize(
    "state",
    [
        {"format_version": 1},
        {"format_version": "x"},
        [],
        {name: {} for name in ("model", "epoch", "trained", "history", "report")},
        {
            **dict.fromkeys(("epoch", "trained", "history", "report"), 1),
            **{"format_version": 1, "model": {}, "budget": {}, "best": {}},
        },
    ],
)
def test_checkpoint_of_something_else(folder, state, monkeypatch):
    monkeypatch.setattr(run_module, "read_parts", lambda *arguments: ({}, {}))
    np.savez(folder / CHECKPOINT, state=np.array(json.dumps(state)))
    with pytest.raises(ValueError, match=r"checkpoint\.npz', which is damaged"):
        resume(folder)


@pytest.mark.parametrize("options", [{"cutoff": "far"}, {"minutes": [1]}, {"data": 5}])
def test_options_of_something_else(folder, options):
    config = {"options": options, "fingerprints": {}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json', which this version"):
        resume(folder)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_are_not_followed(folder, tmp_path, link):
    """Somebody else's folder must not make a run destroy a file elsewhere."""
    victims = [tmp_path / "victim.txt", tmp_path / "victims"]
    victims[0].write_text("mine")
    victims[1].mkdir()
    (victims[1] / "a").write_text("mine")
    os.symlink(victims[1], folder / ".saved_model-x")
    link(victims[0], folder / _LOCK)
    link(victims[0], folder / ".metrics.unfinished.json")
    if link is os.symlink:
        with pytest.raises(OSError, match=r"\.lock', a symbolic link\. Remove"):
            resume(folder)
        (folder / _LOCK).unlink()
    with locked(folder):
        run_module._sweep(folder)
    assert not list(folder.glob(".*"))
    assert victims[0].read_text() == (victims[1] / "a").read_text() == "mine"
