"""A training run, from a file of structures to a folder with a potential."""

import dataclasses
import json
import os
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
from tfpes.data import Structures, load, read
from tfpes.data.embedded import EMBEDDED
from tfpes.elements import join_symbols
from tfpes.evaluation import error_table, format_errors, predict
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.metrics import EnergyMAE, EnergyRMSE, ForceMAE, ForceRMSE
from tfpes.models import Potential, SchNet


@dataclasses.dataclass(frozen=True)
class Options:
    """What ``tfpes train`` can be told; the command line describes each."""

    data: Sequence[str] = ("molecules",)
    valid: Sequence[str] = ()
    test: Sequence[str] = ()
    cutoff: float = 5.0
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    metric: str = "mse"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    learning_rate: float = 5e-3
    channels: int = 64
    blocks: int = 3
    size_law: str = "auto"
    seed: int = 0
    output: str | None = None
    overwrite: bool = False
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str = "stress"


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
    folder = _choose_folder(options)
    parts = _read(options, console)
    padding = parts["train"].padding(options.batch_size, shuffle=True)
    console.print(f"Batches: {padding}")
    normalization = PESNormalization(size_law=options.size_law)
    normalization.adapt(parts["train"].batches(64))
    console.print()
    console.print(
        str(normalization.report), markup=False, highlight=False, soft_wrap=True
    )
    model = _compile(options, normalization)
    # Only now, when nothing is wrong with the data.
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _describe(options, parts))
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
    for name in ("cutoff", "batch_size", "learning_rate", "channels", "blocks"):
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


def _choose_folder(options: Options) -> pathlib.Path:
    """Return a folder that holds no run yet, or one that may be overwritten."""
    if options.output is None:
        name = pathlib.Path(options.data[0]).stem
        number = 1
        while (folder := pathlib.Path("runs") / f"{name}-{number}").exists():
            number += 1
        return folder
    folder = pathlib.Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(
            f"`--output` must be a folder. Received: {options.output!r}, a file."
        )
    if folder.is_dir() and any(folder.iterdir()) and not options.overwrite:
        raise FileExistsError(
            "`--output` must be a new or empty folder. Received: "
            f"{options.output!r}, which holds files. Choose another one, or pass "
            "`--overwrite`."
        )
    return folder


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
    if len(paths) == 1 and paths[0] in EMBEDDED and not os.path.exists(paths[0]):
        structures = load(paths[0], options.cutoff, verbose=True)
    else:
        structures = read(
            paths,
            options.cutoff,
            energy_key=options.energy_key,
            forces_key=options.forces_key,
            stress_key=options.stress_key,
        )
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
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=10.0),
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
    report = model.normalization.report
    _write_json(
        folder / "metrics.json",
        {
            "test": errors,
            "history": history,
            "padding": dataclasses.asdict(padding),
            "statistics": report.as_dict(),
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


def _write_json(path: pathlib.Path, content: Any) -> None:
    """Write a file completely or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)
