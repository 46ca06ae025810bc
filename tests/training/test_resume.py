"""Going on with a run that was killed, as if nothing had happened."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import ase.io
import keras
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

import tfpes
from tfpes.callbacks import BestModel, CosineBudget
from tfpes.cli import app
from tfpes.training import Options
from tfpes.training import run as run_module
from tfpes.training.checkpoint import Checkpoint, Saved
from tfpes.training.fit import CHECKPOINT
from tfpes.training.lock import LOCK, locked
from tfpes.training.potential import compile_potential

EPOCHS = 6
fcntl = pytest.importorskip("fcntl")
OPTIONS = ["--epochs", EPOCHS, "--channels", 8, "--blocks", 1, "--batch-size", 4]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
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
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def assert_fails(result, *texts):
    assert result.exit_code == 1, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("Error:")
    for text in texts:
        assert text in message


def history(folder):
    return json.loads((folder / "metrics.json").read_text())["history"]


class Killed(Exception):
    """Nothing catches it."""


def die(*arguments):
    raise Killed


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
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
        result = run(data, "-o", room / "run", *OPTIONS)
    assert result.exit_code == 0, result.output
    return room


@pytest.fixture
def stopped(uninterrupted, tmp_path):
    """The folder of a run that was killed in its fourth epoch."""
    return shutil.copytree(uninterrupted / "stopped", tmp_path / "run")


def test_an_interrupted_run_tells_how_to_go_on(stopped, monkeypatch):
    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_begin", interrupt)
    result = run("--resume", stopped)
    assert result.exit_code == 130, result.output
    assert f"--resume {stopped}" in result.output.replace("\n", "")
    assert not json.loads((stopped / "metrics.json").read_text())["finished"]
    assert len(history(stopped)["loss"]) == 3
    assert (stopped / CHECKPOINT).exists()


def test_the_same_as_an_uninterrupted_run(uninterrupted, stopped):
    result = run("--resume", stopped)
    assert result.exit_code == 0, result.output
    assert "Going on after epoch 3" in result.output
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


def test_a_finished_run(uninterrupted):
    folder = uninterrupted / "run"
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert_fails(run("--resume", folder), "which has finished", "--from")
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_killed_after_the_last_epoch(uninterrupted, monkeypatch):
    """Only the results are missing: nothing is trained again."""
    monkeypatch.setattr("tfpes.training.fit._run_epochs", die)
    folder = uninterrupted / "trained"
    assert (folder / CHECKPOINT).exists()
    result = run("--resume", folder)
    assert result.exit_code == 0, result.output
    ours, theirs = (
        json.loads((uninterrupted / name / "metrics.json").read_text())
        for name in ("trained", "run")
    )
    assert ours == theirs
    assert not (folder / CHECKPOINT).exists()


def test_killed_in_the_first_epoch(stopped, monkeypatch):
    """The run begins again, as it began."""
    weights = []

    def fit(options, model, parts, folder, saved, console):
        assert saved is None
        model.build()
        weights.append(model.get_weights())
        raise Killed

    monkeypatch.setattr(run_module, "fit", fit)
    (stopped / CHECKPOINT).unlink()
    config = json.loads((stopped / "config.json").read_text())
    run("--resume", stopped)
    run(*config["options"]["data"], "-o", stopped.parent / "new", *OPTIONS)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


# -- what is refused ----------------------------------------------------------------


def test_options_must_not_contradict(stopped, data, monkeypatch):
    for arguments, text in (
        (["--epochs", 9], f"`--epochs` 9, but the run in '{stopped}' has {EPOCHS}"),
        (["--seed", 1], "`--seed` 1"),
        (["--minutes", 3], "`--minutes` 3.0"),
        ([str(data) + ".bak"], "`DATA`"),
        (["--overwrite"], "`--overwrite` True"),
        (["-o", stopped.parent], "`--output`"),
    ):
        assert_fails(
            run("--resume", stopped, *arguments), text, "options that it began"
        )
    # The same ones may be repeated.
    monkeypatch.setattr(run_module, "fit", die)
    result = run("--resume", stopped, data, *OPTIONS, "-o", stopped)
    assert isinstance(result.exception, Killed), result.output


@pytest.mark.parametrize("change", ["labels", "geometry", "number"])
def test_the_data_must_be_the_same(data, stopped, change):
    text = data.read_text()
    frames = ase.io.read(data, ":")
    if change == "labels":
        frames[7].calc.results["energy"] += 1e-6
    elif change == "geometry":
        frames[7].positions[0, 0] += 1e-3
    else:
        frames = frames[:-1]
    try:
        ase.io.write(data, frames)
        assert_fails(run("--resume", stopped), "needs the data", "Restore the files")
    finally:
        data.write_text(text)


def test_no_run(tmp_path):
    assert_fails(run("--resume", tmp_path / "nothing"), "has no config.json")
    (tmp_path / "config.json").write_text("{}")
    assert_fails(run("--resume", tmp_path), "cannot read")


def test_damaged_checkpoint(stopped):
    path = stopped / CHECKPOINT
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[: len(whole) // 2], b"x" * 1000):
        path.write_bytes(damaged)
        assert_fails(run("--resume", stopped), "which is damaged", "Delete it")
    np.savez(path, state=np.array(json.dumps({"format_version": 99})))
    assert_fails(run("--resume", stopped), "format 99", "Update tfpes")
    np.savez(path, state=np.array([{"format_version": 1}], dtype=object))
    assert_fails(run("--resume", stopped), "which is damaged")  # never unpickled


# -- writing ------------------------------------------------------------------------


@pytest.fixture
def checkpoint(stopped):
    """A checkpoint that was restored from the stopped run."""
    saved = Saved(stopped / CHECKPOINT)
    model = saved.model()
    compile_potential(model, Options(epochs=EPOCHS))
    checkpoint = Checkpoint(
        stopped / CHECKPOINT,
        BestModel(stopped / "model.keras"),
        CosineBudget(4e-3, epochs=EPOCHS),
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
    for name in (".saved_model-x1", ".pictures-x2"):
        (stopped / name).mkdir()
        (stopped / name / "part").write_text("")
    for name in (".checkpoint.unfinished.npz", ".metrics.unfinished.json", ".mine"):
        (stopped / name).write_text("")
    monkeypatch.setattr(run_module, "fit", die)
    run("--resume", stopped)
    assert [path.name for path in stopped.glob(".*")] == [".mine"]


# -- one process at a time -----------------------------------------------------------

IN_USE = "which is in use by another process"


def test_a_run_in_use(stopped, data):
    (stopped / LOCK).unlink(missing_ok=True)  # of the process that was killed
    before = {p: p.stat().st_mtime_ns for p in stopped.iterdir()}
    with locked(stopped):
        assert_fails(run("--resume", stopped), f"'{stopped}', {IN_USE}")
        again = run(data, "-o", stopped, "--overwrite", *OPTIONS)
        assert_fails(again, IN_USE)
        assert {p for p in stopped.iterdir() if p.name != LOCK} == before.keys()
    assert before == {p: p.stat().st_mtime_ns for p in stopped.iterdir()}


def test_what_a_killed_process_left_locks_nothing(stopped, monkeypatch):
    monkeypatch.setattr(run_module, "fit", die)
    assert (stopped / LOCK).exists()
    assert isinstance(run("--resume", stopped).exception, Killed)
    assert not (stopped / LOCK).exists()


def test_a_lock_that_was_just_removed(tmp_path, monkeypatch):
    """It was opened before its holder had ended: a third may hold a new one."""
    flock = fcntl.flock

    def late(handle, operation):
        (tmp_path / LOCK).unlink()
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BlockingIOError, match=IN_USE), locked(tmp_path):
        pass


def test_no_locks_on_this_file_system(tmp_path, monkeypatch):
    def fail(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


# -- the shuffle --------------------------------------------------------------------


def test_the_shuffle_is_a_function_of_seed_and_epoch(data):
    import tensorflow as tf

    structures = tfpes.data.read(data, 4.0, verbose=False)
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


@pytest.mark.slow
def test_killed(uninterrupted, data, tmp_path, monkeypatch):
    """SIGKILL at some moment after the first epoch; until then, no other process."""
    fitted = []
    monkeypatch.setattr(
        run_module, "write_results", lambda *arguments: fitted.append(arguments[3])
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-c", "from tfpes.cli import app; app()"]
    process = subprocess.Popen(
        [*command, "train", *map(str, [data, "-o", folder, *OPTIONS])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # Once there are options to go on with.
        wait_for(folder / "config.json", process)
        assert_fails(run("--resume", folder), IN_USE)
        wait_for(folder / CHECKPOINT, process)
    finally:
        process.kill()
        process.wait()
    assert not (folder / "metrics.json").exists()
    result = run("--resume", folder)
    assert result.exit_code == 0, result.output
    assert "Going on after epoch" in result.output
    assert fitted[0].history == history(uninterrupted / "run")


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_random_moments(uninterrupted, data, tmp_path):
    """SIGKILL, each time at a random moment after the start of training."""
    rng = random.Random(0)
    folder = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-c", "from tfpes.cli import app; app()"]
    arguments = [data, "-o", folder, *OPTIONS]
    for _ in range(2):
        process = subprocess.Popen(
            [*command, "train", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Once there are options to go on with.
        while not (folder / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        try:
            process.wait(rng.uniform(0.5, 8.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        arguments = ["--resume", folder]
        if (folder / CHECKPOINT).exists():
            Saved(folder / CHECKPOINT)
    if not (folder / "metrics.json").exists():
        result = run("--resume", folder)
        assert result.exit_code == 0, result.output
    assert history(folder) == history(uninterrupted / "run")
