"""Going on with a run that was killed, as if nothing had happened."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import ase.io
import keras
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from rich.console import Console

import tfpes
from tfpes.callbacks import BestModel
from tfpes.training import Options, resume, train
from tfpes.training import run as run_module
from tfpes.training.checkpoint import Checkpoint, Saved
from tfpes.training.fit import CHECKPOINT
from tfpes.training.lock import _LOCK, locked
from tfpes.training.potential import compile_potential

EPOCHS = 6
pytestmark = pytest.mark.slow  # all begin with a run that was trained
fcntl = pytest.importorskip("fcntl")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Of a run of some seconds; its folder is up to the test."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(40):
        atoms = bulk(("Cu", "Au")[number % 2], cubic=True) * (1, 1, 1 + number % 2)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    path = tmp_path_factory.mktemp("data") / "data.xyz"
    ase.io.write(path, frames)
    # All that has a state of its own.
    return Options(
        data=[str(path)],
        epochs=EPOCHS,
        channels=8,
        blocks=1,
        batch_size=4,
        virial_weight=0.1,
        ratio="0.1:10",
        weight_decay=1e-3,
        ema=0.9,
        patience=5,
    )


def history(folder):
    return json.loads((folder / "metrics.json").read_text())["history"]


class Killed(Exception):
    """Nothing catches it."""


def die(*arguments):
    raise Killed


@pytest.fixture(scope="module")
def uninterrupted(options, tmp_path_factory):
    """A complete run, and copies from its fourth epoch and from before its results."""
    room = tmp_path_factory.mktemp("uninterrupted")
    write = run_module.write_results

    def copy_in_the_fourth(self, epoch, logs=None):
        if epoch == 3:
            shutil.copytree(room / "run", room / "stopped")

    def copy_and_write(*arguments):
        shutil.copytree(room / "run", room / "trained")
        write(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_begin", copy_in_the_fourth)
        # Writes every epoch, however fast.
        patch.setattr("tfpes.training.checkpoint._SHARE_OF_TIME", 1e9)
        patch.setattr(run_module, "write_results", copy_and_write)
        train(dataclasses.replace(options, output=str(room / "run")))
    return room


@pytest.fixture
def stopped(uninterrupted, tmp_path):
    """The folder of a run that was killed in its fourth epoch."""
    return shutil.copytree(uninterrupted / "stopped", tmp_path / "run")


def test_an_interrupted_run_tells_how_to_go_on(stopped, monkeypatch, capsys):
    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_begin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resume(stopped)
    # Without a console, all is said on standard error.
    said = capsys.readouterr()
    assert f"--resume {stopped}" in said.err.replace("\n", "")
    assert not said.out
    assert not json.loads((stopped / "metrics.json").read_text())["finished"]
    assert len(history(stopped)["loss"]) == 3
    assert (stopped / CHECKPOINT).exists()


def test_the_same_as_an_uninterrupted_run(uninterrupted, stopped, monkeypatch):
    """Also by three steps per execution: 8 steps of an epoch end with a tail of 2."""
    monkeypatch.setattr(run_module, "steps_per_execution", lambda *_: 3)
    with io.StringIO() as file:
        assert resume(stopped, Console(file=file)) == stopped
        assert "Going on after epoch 3" in file.getvalue()
    folders = (stopped, uninterrupted / "run")
    # Not only close: the same numbers, in all logs, errors and weights.
    metrics = [json.loads((path / "metrics.json").read_text()) for path in folders]
    assert metrics[0] == metrics[1]
    assert len(metrics[0]["history"]["val_loss"]) == EPOCHS
    names = [{path.name for path in folder.iterdir()} for folder in folders]
    assert names[0] == names[1]
    models = [keras.models.load_model(path / "model.keras") for path in folders]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(*(m.optimizer.variables for m in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_killed_after_the_last_epoch(uninterrupted, monkeypatch):
    """Only the results are missing: nothing is trained again."""
    monkeypatch.setattr("tfpes.training.fit._run_epochs", die)
    folder = uninterrupted / "trained"
    assert (folder / CHECKPOINT).exists()
    resume(folder)
    ours, theirs = (
        json.loads((uninterrupted / name / "metrics.json").read_text())
        for name in ("trained", "run")
    )
    assert ours == theirs
    assert not (folder / CHECKPOINT).exists()


def test_killed_in_the_first_epoch(stopped, options, monkeypatch):
    """The run begins again, as it began."""
    weights = []

    def fit(run, saved):
        assert saved is None
        run.model.build()
        weights.append(run.model.get_weights())
        raise Killed

    monkeypatch.setattr(run_module, "fit", fit)
    (stopped / CHECKPOINT).unlink()
    with pytest.raises(Killed):
        resume(stopped)
    with pytest.raises(Killed):
        train(dataclasses.replace(options, output=str(stopped.parent / "new")))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


# -- what is refused ----------------------------------------------------------------


def test_a_finished_run(uninterrupted):
    folder = uninterrupted / "run"
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(ValueError, match=r"which has finished.*--from"):
        resume(folder)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_options_must_not_contradict(stopped, options, monkeypatch):
    (data,) = options.data
    for given, text in (
        ({"epochs": 9}, f"`--epochs` 9, but the run in '{stopped}' has {EPOCHS}"),
        ({"seed": 1}, "`--seed` 1"),
        ({"minutes": 3.0}, "`--minutes` 3.0"),
        ({"data": (data + ".bak",)}, "`DATA`"),
        ({"overwrite": True}, "`--overwrite` True"),
        ({"output": str(stopped.parent)}, "`--output`"),
    ):
        with pytest.raises(ValueError, match="options that it began") as raised:
            resume(stopped, given=given)
        assert text in str(raised.value)
    # The same ones may be repeated.
    monkeypatch.setattr(run_module, "fit", die)
    same = {"data": (data,), "epochs": EPOCHS, "channels": 8, "output": str(stopped)}
    with pytest.raises(Killed):
        resume(stopped, given=same)


@pytest.mark.parametrize("change", ["labels", "geometry", "number"])
def test_the_data_must_be_the_same(options, stopped, change):
    path = pathlib.Path(options.data[0])
    text = path.read_text()
    frames = ase.io.read(path, ":")
    if change == "labels":
        frames[7].calc.results["energy"] += 1e-6
    elif change == "geometry":
        frames[7].positions[0, 0] += 1e-3
    else:
        frames = frames[:-1]
    try:
        ase.io.write(path, frames)
        with pytest.raises(ValueError, match=r"needs the data.*Restore the files"):
            resume(stopped)
    finally:
        path.write_text(text)


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        resume(tmp_path / "nothing")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot read"):
        resume(tmp_path)


def test_damaged_checkpoint(stopped):
    path = stopped / CHECKPOINT
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[: len(whole) // 2], b"x" * 1000):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"which is damaged.*Delete it"):
            resume(stopped)
    np.savez(path, state=np.array(json.dumps({"format_version": 99})))
    with pytest.raises(ValueError, match=r"format 99.*Update tfpes"):
        resume(stopped)
    np.savez(path, state=np.array([{"format_version": 1}], dtype=object))
    with pytest.raises(ValueError, match="which is damaged"):  # never unpickled
        resume(stopped)


# -- writing ------------------------------------------------------------------------


@pytest.fixture
def checkpoint(stopped, options):
    """A checkpoint that was restored from the stopped run."""
    saved = Saved(stopped / CHECKPOINT)
    model = saved.model()
    budget, _ = compile_potential(model, options)
    checkpoint = Checkpoint(
        stopped / CHECKPOINT,
        BestModel(stopped / "model.keras"),
        budget,
        None,
    )
    checkpoint.set_model(model)
    checkpoint.restore(saved)
    return checkpoint


def test_what_is_restored_is_what_was_written(checkpoint):
    before = Saved(checkpoint.path)
    checkpoint.write()
    after = Saved(checkpoint.path)
    models = [saved.state.pop("model") for saved in (before, after)]
    networks = [model["config"]["network"]["config"] for model in models]
    assert networks[0] == networks[1]
    assert after.state == before.state
    for group in ("model", "optimizer", "best"):
        assert len(before.arrays(group)) > 3
        for one, other in zip(before.arrays(group), after.arrays(group), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_disk_full(checkpoint, monkeypatch):
    before = checkpoint.path.read_bytes()
    savez = np.savez

    def full(path, **arrays):
        savez(path, **arrays)
        with open(path, "rb+") as file:
            file.truncate(1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"No space left.*previous one is intact"):
        checkpoint.write()
    assert checkpoint.path.read_bytes() == before
    assert not list(checkpoint.path.parent.glob(".*.npz"))


def test_short_epochs_are_not_all_written(checkpoint, monkeypatch):
    clock = [0.0]
    written = []

    def write(self):
        written.append(self.epoch)
        clock[0] += 0.5  # a slow disk

    monkeypatch.setattr(Checkpoint, "write", write)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    checkpoint.model.stop_training = False
    for epoch in range(30):
        clock[0] += 1.0
        checkpoint.model.stop_training = epoch == 29
        checkpoint.on_epoch_end(epoch, {"loss": 1.0})
    # At most a twentieth of the time, and always the last.
    assert written == [1, 11, 21, 30]


def test_what_a_killed_process_left_is_swept(stopped, monkeypatch):
    (stopped / ".saved_model-x1").mkdir()
    for name in (
        ".saved_model-x1/part", ".checkpoint.unfinished.npz",
        ".metrics.unfinished.json", ".parity.unfinished.png", ".mine",
    ):  # fmt: skip
        (stopped / name).write_text("")
    monkeypatch.setattr(run_module, "fit", die)
    with pytest.raises(Killed):
        resume(stopped)
    assert [path.name for path in stopped.glob(".*")] == [".mine"]


# -- one process at a time -----------------------------------------------------------

IN_USE = "which is in use by another process"


def test_a_run_in_use(stopped, options):
    again = dataclasses.replace(options, output=str(stopped), overwrite=True)
    (stopped / _LOCK).unlink(missing_ok=True)  # of the process that was killed
    before = {p: p.stat().st_mtime_ns for p in stopped.iterdir()}
    with locked(stopped):
        with pytest.raises(BlockingIOError, match=f"'{stopped}', {IN_USE}"):
            resume(stopped)
        with pytest.raises(BlockingIOError, match=IN_USE):
            train(again)
        assert {p for p in stopped.iterdir() if p.name != _LOCK} == before.keys()
    assert before == {p: p.stat().st_mtime_ns for p in stopped.iterdir()}


def test_what_a_killed_process_left_locks_nothing(stopped, monkeypatch):
    monkeypatch.setattr(run_module, "fit", die)
    assert (stopped / _LOCK).exists()
    with pytest.raises(Killed):
        resume(stopped)
    assert not (stopped / _LOCK).exists()


def test_a_lock_that_was_just_removed(tmp_path, monkeypatch):
    """It was opened before its holder had ended: a third may hold a new one."""
    flock = fcntl.flock

    def late(handle, operation):
        (tmp_path / _LOCK).unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BlockingIOError, match=IN_USE), locked(tmp_path):
        pass


def test_no_locks_on_this_file_system(tmp_path, monkeypatch):
    def fail(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path):
        assert (tmp_path / _LOCK).exists()
    assert not (tmp_path / _LOCK).exists()


# -- the shuffle --------------------------------------------------------------------


def test_the_shuffle_is_a_function_of_seed_and_epoch(options):
    import tensorflow as tf

    structures = tfpes.data.read(options.data, 4.0, verbose=False)
    epoch = tf.Variable(0, dtype=tf.int64)

    def energies(dataset):
        return [targets["energy"].numpy()[:, 0] for _, targets in dataset]

    counted = structures.batches(4, shuffle=True, seed=3)
    expected = [energies(counted) for _ in range(4)]
    told = structures.batches(4, shuffle=True, seed=3, epoch=epoch)
    for number in (2, 0, 2, 3, 1):
        epoch.assign(number)
        np.testing.assert_array_equal(energies(told), expected[number])
    assert not np.array_equal(expected[0], expected[1], equal_nan=True)


# -- real signals -------------------------------------------------------------------


def test_killed_at_random_moments(uninterrupted, stopped):
    """What it goes on from is what the uninterrupted run was at that epoch."""
    before = written(stopped)
    (stopped / _LOCK).unlink()
    with killing(f"resume({str(stopped)!r})"):
        wait((stopped / _LOCK).exists)
        time.sleep(0.1)  # from the file to its lock
        with pytest.raises(BlockingIOError, match=IN_USE):
            resume(stopped)
        wait(lambda: written(stopped) != before)
        time.sleep(random.Random(0).uniform(0.0, 0.3))
    saved = Saved(stopped / CHECKPOINT)
    epochs = saved.state["epoch"]
    assert epochs > 3
    for name, values in saved.state["history"].items():
        assert values == history(uninterrupted / "run")[name][:epochs]


def written(folder):
    return (folder / CHECKPOINT).stat().st_mtime_ns


@contextlib.contextmanager
def killing(statement):
    """Run a statement in another process, which is killed in the end."""
    script = f"from tfpes.training import Options, resume, train; {statement}"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script])
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def wait(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
