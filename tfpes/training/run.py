"""A run from its beginning to its end, and one that goes on."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from rich.console import Console

from tfpes import finetuning
from tfpes.callbacks import CosineBudget, LossWeightSchedule
from tfpes.data import Structures
from tfpes.distribute import Cluster
from tfpes.files import made_folder, require_empty
from tfpes.models import Potential
from tfpes.models.export import network_cutoff
from tfpes.terminal import PlainConsole
from tfpes.training.checkpoint import Saved
from tfpes.training.config import read_config, write_config
from tfpes.training.fit import CHECKPOINT, Run, fit
from tfpes.training.host_loop import device_name, steps_per_execution
from tfpes.training.lock import locked
from tfpes.training.options import Options, check
from tfpes.training.potential import (
    compile_potential,
    continued_potential,
    new_potential,
)
from tfpes.training.reading import check_fingerprints, read_parts
from tfpes.training.results import RESULTS, write_results


def train(options: Options, console: Console | None = None) -> pathlib.Path:
    """Read, adapt, fit, evaluate and write everything.

    Args:
        options: what to do.
        console: where to show progress and results; None for standard error.

    Returns:
        The folder of the run.

    Raises:
        ValueError: for data or options that make no sense.
        FileNotFoundError: if a data file does not exist.
        FileExistsError: if the folder has a run that must not be overwritten.
        BlockingIOError: if another process is writing it.
        FloatingPointError: if the loss stops being finite; the best model is kept.
        KeyboardInterrupt: when interrupted, after everything has been written.
    """
    check(options)
    cluster, console = _cluster(options, console)
    with _new_folder(options, cluster) as folder:
        start = None
        if options.start is not None:
            _protect_start(options.start, folder)
            start = finetuning.load_trained(options.start)
            options = dataclasses.replace(options, cutoff=network_cutoff(start))
        model, parts = _begin(options, start, console)
        budget, schedule = _compile(model, options, parts["train"])
        # Only now, when nothing is wrong with the data.
        for name in (CHECKPOINT, RESULTS):
            # Of a run that is overwritten.
            (folder / name).unlink(missing_ok=True)
        write_config(folder, options, parts)
        run = Run(options, model, budget, parts, folder, console, schedule, cluster)
        _finish(run, None)
    return folder


def resume(
    folder: str | os.PathLike[str],
    console: Console | None = None,
    given: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Go on with a run that was killed or interrupted, as if nothing had happened.

    Args:
        folder: of the run.
        console: where to show progress and results; None for standard error.
        given: options that must not contradict those of the run.

    Returns:
        The folder of the run.

    Raises:
        ValueError: if the data or an option changed, or the run has finished.
        FileNotFoundError: if there is no run, or a data file has gone.
        BlockingIOError: if another process is going on with it.
        FloatingPointError: if the loss stops being finite; the best model is kept.
        KeyboardInterrupt: when interrupted, after everything has been written.
    """
    folder = pathlib.Path(folder)
    options, fingerprints = read_config(folder, given or {})
    cluster, console = _cluster(options, console)
    with contextlib.ExitStack() as stack:
        own = folder
        if cluster.is_chief:
            stack.enter_context(locked(folder))
            _sweep(folder)
        else:
            own = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _refuse_finished(folder)
        if (folder / CHECKPOINT).exists():
            saved = Saved(folder / CHECKPOINT)
            parts, _ = read_parts(options, console)
            model = saved.model()
        else:
            # Stopped in its first epoch.
            saved = None
            start = options.start and finetuning.load_trained(options.start)
            model, parts = _begin(options, start or None, console)
        check_fingerprints(fingerprints, parts, str(folder))
        budget, schedule = _compile(model, options, parts["train"])
        run = Run(options, model, budget, parts, own, console, schedule, cluster)
        _finish(run, saved)
    return folder


def _cluster(options: Options, console: Console | None) -> tuple[Cluster, Console]:
    """Return the processes that train, and where this one may print."""
    cluster = Cluster()
    if cluster.size > 1 and options.epochs is None:
        raise ValueError(
            "Processes that train together stop at the same step. Received: a run for "
            f"minutes, with {cluster.size} processes. Pass `--epochs`."
        )
    if not cluster.is_chief:
        return cluster, PlainConsole(quiet=True)
    return cluster, console or PlainConsole(stderr=True)


@contextlib.contextmanager
def _new_folder(options: Options, cluster: Cluster) -> Iterator[pathlib.Path]:
    """Yield the folder of a run, in other processes than the chief one that goes."""
    if not cluster.is_chief:
        with tempfile.TemporaryDirectory() as room:
            yield pathlib.Path(room)
        return
    name = pathlib.Path(options.data[0]).stem
    # Reading takes long: the folder is taken before.
    with made_folder(options.output, options.overwrite, name) as folder, locked(folder):
        require_empty(folder, options.overwrite)
        yield folder


def _refuse_finished(folder: pathlib.Path) -> None:
    path = folder / RESULTS
    if not path.exists():
        return
    try:
        finished = json.loads(path.read_text(encoding="utf-8"))["finished"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`--resume` reads whether a run has finished. Received: '{path}', which "
            f"is damaged or of something else ({error}). Delete it to go on."
        ) from error
    if finished:
        # Left by a process that was killed after the last file.
        (folder / CHECKPOINT).unlink(missing_ok=True)
        raise ValueError(
            "`--resume` goes on with a run that was stopped. Received: "
            f"'{folder}', which has finished. Start a new run, with `--from "
            f"{folder}` if it shall begin with what was learned."
        )


def _protect_start(start: str, folder: pathlib.Path) -> None:
    """Raise a ValueError if the run would overwrite the model it begins with."""
    path = pathlib.Path(start).resolve()
    if folder.resolve() in (path, *path.parents):
        raise ValueError(
            "A run must not overwrite the model that it begins with. Received: "
            f"`--from {start}` and `--output {folder}`. Choose another folder."
        )


def _begin(
    options: Options, start: Potential | None, console: Console
) -> tuple[Potential, dict[str, Structures]]:
    """Return the model as it is before the first epoch, and the data."""
    console.print(f"Device: {device_name()}", highlight=False)
    keras.utils.set_random_seed(options.seed)
    parts, atoms = read_parts(options, console)
    if options.virial_weight and np.isnan(parts["train"].virial).all():
        raise ValueError(
            "`--virial-weight` needs labels of the stress or the virial. Received: "
            "none, or none of a periodic structure. Name them with `--stress-key` or "
            "`--virial-key`, or leave the weight out."
        )
    if start is None:
        return new_potential(options, parts["train"], console, atoms), parts
    return continued_potential(options, start, parts["train"], console), parts


def _compile(
    model: Potential, options: Options, structures: Structures
) -> tuple[CosineBudget, LossWeightSchedule | None]:
    steps = steps_per_execution(model, structures, options.batch_size)
    return compile_potential(model, options, steps)


def _sweep(folder: pathlib.Path) -> None:
    """Remove what a killed process left unfinished."""
    for pattern in (".saved_model-*", ".*.unfinished.*"):
        for path in folder.glob(pattern):
            is_folder = path.is_dir() and not path.is_symlink()
            shutil.rmtree(path) if is_folder else path.unlink()


def _finish(run: Run, saved: Saved | None) -> None:
    """Do all that comes after reading."""
    padding = run.parts["train"].padding(run.options.batch_size, shuffle=True)
    run.console.print(f"Batches: {padding}")
    run.cluster.prepare(run.model)
    checkpoint, interrupted = fit(run, saved)
    if run.cluster.is_chief:
        write_results(run, checkpoint, not interrupted)
    if interrupted:
        raise KeyboardInterrupt
    # A process that ends is taken for one that died: the others wait for the chief.
    run.cluster.broadcast(0.0)
