"""The fit of a run, from its first or from a later epoch."""

import pathlib
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from tfpes.callbacks import BestModel, CosineBudget, StopOnNaN
from tfpes.callbacks.best_model import save_model
from tfpes.data import Structures
from tfpes.models import Potential
from tfpes.training.checkpoint import Checkpoint, Saved
from tfpes.training.epoch_lines import EpochLines
from tfpes.training.options import Options

CHECKPOINT = "checkpoint.npz"
"""Is there until a run has finished."""


def fit(
    options: Options,
    model: Potential,
    parts: dict[str, Structures],
    folder: pathlib.Path,
    saved: Saved | None,
    console: Console,
) -> tuple[Checkpoint, bool]:
    """Fit, leave the best model in memory and on disk.

    Args:
        options: of the run.
        model: compiled.
        parts: of the data.
        folder: of the run.
        saved: to go on from.
        console: where to show progress.

    Returns:
        The state at the end, and whether the run was interrupted.
    """
    normalization = model.normalization
    report = normalization.report.as_dict() if normalization.has_report else None
    best = BestModel(folder / "model.keras")
    budget = CosineBudget(options.learning_rate, **options.budget)
    checkpoint = Checkpoint(folder / CHECKPOINT, best, budget, report)
    for callback in (best, checkpoint):
        callback.set_model(model)
    if saved is not None:
        checkpoint.restore(saved)
        console.print(f"\nGoing on after epoch {checkpoint.epoch}.")
    interrupted = False
    if not checkpoint.trained:
        interrupted = _run_epochs(options, model, parts, budget, checkpoint, console)
    if best.best_epoch is None:
        # Interrupted in the first epoch: what was learned is the latest.
        save_model(model, best.path)
    best.write()
    best.restore()
    console.print(f"\nBest epoch: {(best.best_epoch or 0) + 1}.")
    return checkpoint, interrupted


def _run_epochs(
    options: Options,
    model: Potential,
    parts: dict[str, Structures],
    budget: CosineBudget,
    checkpoint: Checkpoint,
    console: Console,
) -> bool:
    """Run the epochs that are left, and return whether they were interrupted."""
    lines = EpochLines(console, options.epochs)
    ((unit, number),) = options.budget.items()
    console.print(
        f"\nTraining for {number:g} {unit} (the first step is compiled, which takes a "
        "while). Ctrl-C stops and keeps what was learned.\n"
    )
    # The shuffle depends on the seed and the epoch alone, whenever a run begins.
    epoch = tf.Variable(0, dtype=tf.int64)
    tell = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, logs: epoch.assign(number)
    )
    callbacks: list[Any] = [tell, budget, StopOnNaN(), checkpoint.best, lines]
    try:
        model.fit(
            parts["train"].batches(
                options.batch_size, shuffle=True, seed=options.seed, epoch=epoch
            ),
            validation_data=parts["valid"].batches(options.batch_size),
            initial_epoch=checkpoint.epoch,
            # A budget of minutes stops by itself.
            epochs=options.epochs or 10**9,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, checkpoint],
        )
    except KeyboardInterrupt:
        lines.close()
        console.print("Interrupted: evaluating the best model so far.")
        return True
    except FloatingPointError:
        checkpoint.best.write()
        raise
    finally:
        lines.close()
    return False
