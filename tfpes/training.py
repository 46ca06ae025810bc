"""A training run, from a file of structures to a folder with a potential."""

import dataclasses
import pathlib
import platform
import time
from collections.abc import Sequence
from typing import Any

import ase
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

import tfpes
from tfpes.callbacks import BestModel, CosineBudget, StopOnNaN
from tfpes.callbacks.best_model import save_model
from tfpes.callbacks.epoch_lines import EpochLines
from tfpes.data import Structures
from tfpes.elements import join_symbols
from tfpes.evaluation import error_table, format_errors, predict
from tfpes.json_file import write_json
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.metrics import EnergyMAE, EnergyRMSE, ForceMAE, ForceRMSE
from tfpes.models import Potential, SchNet
from tfpes.runs import (
    RunOptions,
    check_cutoff,
    choose_folder,
    print_report,
    read_set,
)


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """What ``tfpes train`` can be told; the command line describes each."""

    valid: Sequence[str] = ()
    test: Sequence[str] = ()
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    metric: str = "mse"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    learning_rate: float = 4e-3
    channels: int = 32
    blocks: int = 2
    stats: str | None = None
    seed: int = 0


DEFAULT_MINUTES = 2.0


def train(options: Options, console: Console) -> pathlib.Path:
    """Read, adapt, fit, evaluate and write everything.

    Args:
        options: what to do.
        console: where to show progress and results.

    Returns:
        The folder of the run.

    Raises:
        ValueError: for data or options that make no sense.
        FileNotFoundError: if a data file does not exist.
        FileExistsError: if the folder has a run that must not be overwritten.
        FloatingPointError: if the loss stops being finite; the best model is kept.
        KeyboardInterrupt: when interrupted, after everything has been written.
    """
    _check(options)
    keras.utils.set_random_seed(options.seed)
    folder = choose_folder(options)
    parts = _read(options, console)
    padding = parts["train"].padding(options.batch_size, shuffle=True)
    console.print(f"Batches: {padding}")
    normalization = _normalization(options, parts["train"], console)
    model = _compile(options, normalization)
    # Only now, when nothing is wrong with the data.
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", _describe(options, parts))
    best = BestModel(folder / "model.keras")
    history, interrupted = _fit(options, model, parts, best, console)
    if best.best_epoch is None:
        # Interrupted in the first epoch: what was learned is the latest.
        save_model(model, best.path)
    best.write()
    best.restore()
    console.print(f"\nBest epoch: {(best.best_epoch or 0) + 1}.")
    model.export(folder / "saved_model")
    _evaluate(options, model, parts, history, padding, folder, console)
    if interrupted:
        raise KeyboardInterrupt
    return folder


def _check(options: Options) -> None:
    check_cutoff(options)
    for name in ("batch_size", "learning_rate", "channels", "blocks"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be positive. Received: "
                f"{getattr(options, name)}."
            )
    for name in ("energy_weight", "forces_weight"):
        if not getattr(options, name) >= 0:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must not be negative. Received: "
                f"{getattr(options, name)}."
            )
    if options.minutes is not None and not options.minutes > 0:
        raise ValueError(f"`--minutes` must be positive. Received: {options.minutes}.")
    if options.epochs is not None and options.minutes is not None:
        raise ValueError(
            "A run lasts for `--epochs` or for `--minutes`. Received: both. "
            "Leave one out."
        )


def _normalization(
    options: Options, structures: Structures, console: Console
) -> PESNormalization:
    """Return the statistics of the structures, or those of a file."""
    if options.stats is None:
        normalization = PESNormalization(size_law=options.size_law)
        normalization.adapt(structures.batches(64))
    else:
        normalization = PESNormalization.from_json(options.stats)
        _check_statistics(options, normalization, structures)
        console.print(f"Statistics: {options.stats}", highlight=False)
    if normalization.has_report:
        print_report(normalization.report, console)
    return normalization


def _check_statistics(
    options: Options, normalization: PESNormalization, structures: Structures
) -> None:
    known = np.flatnonzero(normalization.seen.numpy())
    unknown = set(structures.elements.tolist()) - set(known.tolist())
    if unknown:
        raise ValueError(
            "The statistics of `--stats` must cover the elements of the data, "
            f"{join_symbols(structures.elements)}. Received: '{options.stats}' "
            f"without {join_symbols(unknown)}. Make statistics of data that hold "
            "them with `tfpes stats --save`, or leave `--stats` out."
        )
    if options.forces_weight:
        try:
            normalization.require_adapted("forces")
        except RuntimeError:
            raise ValueError(
                "Training on forces needs their scale. Received: "
                f"'{options.stats}', made of data without forces. Make it of data "
                "with forces, or pass `--forces-weight 0`."
            ) from None


def _read(options: Options, console: Console) -> dict[str, Structures]:
    """Read all files and divide them into training, validation and test sets."""
    parts = {"train": _read_set(options, options.data, "data", console)}
    for name, paths in (("valid", options.valid), ("test", options.test)):
        if paths:
            parts[name] = _read_set(options, paths, name, console)
    missing = [name for name in ("valid", "test") if name not in parts]
    if missing:
        fractions = (1.0 - 0.1 * len(missing), *(0.1 for _ in missing))
        everything = parts["train"]
        plain = everything.split(fractions, options.seed)
        divided = everything.split(fractions, options.seed, cover_elements=True)
        moved = len(divided[0]) - len(plain[0])
        if moved:
            console.print(
                f"{moved} structure(s) hold elements that no other training structure "
                "has: they were moved from validation and test to training."
            )
        parts.update(zip(("train", *missing), divided, strict=True))
    known = set(parts["train"].elements.tolist())
    for name in ("valid", "test"):
        unknown = set(parts[name].elements.tolist()) - known
        if unknown:
            raise ValueError(
                "Validation and test sets may hold only elements of the training set, "
                f"{join_symbols(known)}. Received: `--{name}` with "
                f"{join_symbols(unknown)}. Add structures with these elements to the "
                "training data, or leave them out."
            )
    for name, part in parts.items():
        console.print(f"{name:>6}: {part}", highlight=False)
    return {name: parts[name] for name in ("train", "valid", "test")}


def _read_set(
    options: Options, paths: Sequence[str], name: str, console: Console
) -> Structures:
    structures = read_set(options, paths)
    isolated = structures.isolated_atoms
    if isolated.all():
        raise ValueError(
            "Training needs structures with neighbours within the cutoff of "
            f"{options.cutoff:g} Å. Received: {len(structures)} isolated atoms in "
            f"`{name}`. Check the units (Å) and the cutoff."
        )
    if isolated.any():
        console.print(
            f"{np.count_nonzero(isolated)} isolated atom(s) in `{name}` are left out: "
            "their energies lie a cohesive energy away from all others, far outside "
            "the distribution that the loss is scaled by."
        )
    return structures[~isolated]


def _compile(options: Options, normalization: PESNormalization) -> Potential:
    network = SchNet(options.cutoff, options.channels, options.blocks)
    model = Potential(network, normalization)
    model.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, global_clipnorm=10.0),
        loss={
            "energy": EnergyLoss(normalization, options.metric),
            "forces": ForceLoss(normalization, options.metric),
        },
        loss_weights={
            "energy": options.energy_weight,
            "forces": options.forces_weight,
        },
        metrics={
            "energy": [EnergyMAE(), EnergyRMSE()],
            "forces": [ForceMAE(), ForceRMSE()],
        },
        jit_compile=True,
    )
    return model


def _fit(
    options: Options,
    model: Potential,
    parts: dict[str, Structures],
    best: BestModel,
    console: Console,
) -> tuple[dict[str, list[float]], bool]:
    """Fit, and return the history and whether it was interrupted."""
    minutes = options.minutes
    if options.epochs is None and minutes is None:
        minutes = DEFAULT_MINUTES
    lines = EpochLines(console, options.epochs)
    interrupted = False
    length = f"{options.epochs} epochs" if options.epochs else f"{minutes:g} minutes"
    console.print(
        f"\nTraining for {length} (the first step is compiled, which takes a while). "
        "Ctrl-C stops and keeps what was learned.\n"
    )
    try:
        model.fit(
            parts["train"].batches(options.batch_size, shuffle=True, seed=options.seed),
            validation_data=parts["valid"].batches(options.batch_size),
            # A budget of minutes stops by itself.
            epochs=options.epochs or 10**9,
            shuffle=False,
            verbose=0,
            callbacks=[
                CosineBudget(options.learning_rate, options.epochs, minutes),
                StopOnNaN(),
                best,
                lines,
            ],
        )
    except KeyboardInterrupt:
        interrupted = True
        lines.close()
        console.print("Interrupted: evaluating the best model so far.")
    except FloatingPointError:
        best.write()
        raise
    finally:
        lines.close()
    # Keras makes the history at the end of the first epoch.
    history = getattr(model, "history", None)
    logs = {} if history is None else history.history
    return {key: [float(v) for v in values] for key, values in logs.items()}, (
        interrupted
    )


def _evaluate(
    options: Options,
    model: Potential,
    parts: dict[str, Structures],
    history: dict[str, list[float]],
    padding: Any,
    folder: pathlib.Path,
    console: Console,
) -> None:
    """Print and write the errors on the test set, and draw the pictures."""
    # matplotlib takes a second to import, and only a finished run needs it.
    from tfpes import plots

    test = parts["test"]
    predictions = predict(model, test, options.batch_size)
    errors = error_table(test, predictions)
    normalization = model.normalization
    report = normalization.report.as_dict() if normalization.has_report else None
    write_json(
        folder / "metrics.json",
        {
            "test": errors,
            "history": history,
            "padding": dataclasses.asdict(padding),
            "statistics": report,
        },
    )
    plots.plot_parity(folder / "parity.png", test, predictions)
    plots.plot_error_by_size(folder / "error_by_size.png", test, predictions)
    if history.get("loss"):
        plots.plot_learning_curves(folder / "learning_curves.png", history)
    console.print()
    console.print(format_errors(errors, f"Errors on {len(test)} test structures"))
    console.print(f"\nWritten to {folder}/:", highlight=False)
    for path in sorted(folder.iterdir()):
        console.print(f"  {path.name}", highlight=False)
    console.print(
        "\nRun it:\n  import tfpes\n"
        f'  atoms.calc = tfpes.Calculator("{folder / "saved_model"}")',
        highlight=False,
    )


def _describe(options: Options, parts: dict[str, Structures]) -> dict[str, Any]:
    return {
        "options": dataclasses.asdict(options),
        "structures": {name: len(part) for name, part in parts.items()},
        "elements": join_symbols(parts["train"].elements),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {
            "tfpes": tfpes.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "ase": ase.__version__,
            "python": platform.python_version(),
        },
    }
