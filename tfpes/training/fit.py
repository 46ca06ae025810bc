"""The fit of a run, from its first or from a later epoch."""

import dataclasses
import pathlib
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from tfpes.callbacks import BestModel, CosineBudget, LossWeightSchedule, StopOnNaN
from tfpes.callbacks.best_model import save_model
from tfpes.data import Structures
from tfpes.distribute import Cluster
from tfpes.models import Potential
from tfpes.training.checkpoint import Checkpoint, Saved
from tfpes.training.epoch_lines import EpochLines
from tfpes.training.host_loop import device_name
from tfpes.training.options import Options

CHECKPOINT = "checkpoint.npz"
"""Is there until a run has finished."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that can begin, or go on.

    Attributes:
        options: what it was told.
        model: to train, compiled.
        budget: whose schedule the model was compiled with.
        parts: the structures to train on, to validate and to test with.
        folder: of its files.
        console: where to show progress and results.
        schedule: of the loss weights that the model was compiled with.
        cluster: the processes that train together, each with a folder of its own.
    """

    options: Options
    model: Potential
    budget: CosineBudget
    parts: dict[str, Structures]
    folder: pathlib.Path
    console: Console
    schedule: LossWeightSchedule | None = None
    cluster: Cluster = dataclasses.field(default_factory=Cluster)


def fit(run: Run, saved: Saved | None) -> tuple[Checkpoint, bool]:
    """Fit, leave the best model in memory and on disk.

    Args:
        run: whose model is fitted.
        saved: to go on from.

    Returns:
        The state at the end, and whether the run was interrupted.
    """
    normalization = run.model.normalization
    report = normalization.report.as_dict() if normalization.has_report else None
    best = BestModel(run.folder / "model.keras")
    checkpoint = Checkpoint(run.folder / CHECKPOINT, best, run.budget, report)
    for callback in (best, checkpoint):
        callback.set_model(run.model)
    if saved is not None:
        checkpoint.restore(saved)
        run.console.print(f"\nGoing on after epoch {checkpoint.epoch}.")
    interrupted = not checkpoint.trained and _run_epochs(run, checkpoint)
    if best.best_epoch is None:
        # Interrupted in the first epoch: what was learned is the latest.
        save_model(run.model, best.path)
    best.write()
    best.restore()
    run.console.print(f"\nBest epoch: {(best.best_epoch or 0) + 1}.")
    return checkpoint, interrupted


def _run_epochs(run: Run, checkpoint: Checkpoint) -> bool:
    """Run the epochs that are left, and return whether they were interrupted."""
    options, parts = run.options, run.parts
    lines = EpochLines(run.console, options.epochs, "virial" in options.labels)
    ((unit, number),) = options.budget.items()
    run.console.print(
        f"\nTraining for {number:g} {unit} from the second step on (the first is "
        "compiled, which takes a while). Ctrl-C stops and keeps what was learned.\n"
    )
    # The shuffle depends on the seed and the epoch alone, whenever a run begins.
    epoch = tf.Variable(0, dtype=tf.int64)
    tell = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, logs: epoch.assign(number)
    )
    # The order matters: what the best model is compared by comes before it, and the
    # state of the run is written when all have done their part.
    callbacks: list[Any] = [tell, checkpoint.budget, StopOnNaN()]
    if run.schedule is not None:
        callbacks.append(run.schedule)
    callbacks += _best(run, checkpoint)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(options.tf32)
    try:
        run.model.fit(
            parts["train"].batches(
                options.batch_size,
                shuffle=True,
                seed=options.seed,
                labels=options.labels,
                epoch=epoch,
                share=run.cluster,
            ),
            validation_data=parts["valid"].batches(
                options.batch_size, labels=options.labels, share=run.cluster
            ),
            initial_epoch=checkpoint.epoch,
            # A budget of minutes stops by itself.
            epochs=options.epochs or 10**9,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, lines, checkpoint],
        )
    except KeyboardInterrupt:
        lines.close()
        run.console.print("Interrupted: evaluating the best model so far.")
        return True
    except FloatingPointError:
        checkpoint.best.write()
        raise
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(
            f"A batch must fit into the memory of {device_name()}. Received: "
            f"{options.batch_size} structures, which do not. Try `--batch-size "
            f"{max(options.batch_size // 2, 1)}`, or a smaller network."
        ) from error
    finally:
        lines.close()
        tf.config.experimental.enable_tensor_float_32_execution(before)
    return False


def _best(run: Run, checkpoint: Checkpoint) -> list[Any]:
    """Return what keeps the best model, and stops when none has come for long."""
    best, patience = checkpoint.best, run.options.patience
    callbacks: list[Any] = [best]
    if run.options.ema:
        # Averages are what is validated, and what is kept.
        average = keras.callbacks.SwapEMAWeights()
        to, fro = (
            keras.callbacks.LambdaCallback(on_epoch_end=lambda *_, swap=swap: swap())
            for swap in (average.on_test_begin, average.on_test_end)
        )
        callbacks = [average, to, best, fro]

    def stop(epoch: int, logs: Any) -> None:
        if patience and epoch - (best.best_epoch or 0) >= patience:
            run.model.stop_training = True

    return [*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=stop)]
