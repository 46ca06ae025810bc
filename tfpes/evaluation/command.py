"""Errors of a saved potential on files of structures: table, files and pictures."""

import dataclasses
import pathlib

import numpy as np
from rich.console import Console

from tfpes.data import Structures
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.evaluation.result import evaluate
from tfpes.inference.loading import LoadedPotential, load_potential
from tfpes.runs import RunOptions, choose_folder, read_set


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions(RunOptions):
    """What ``tfpes evaluate`` can be told; the command line describes each."""

    model: str
    batch_size: int = 16


def evaluate_files(options: EvaluateOptions, console: Console) -> pathlib.Path:
    """Load, read, evaluate, print and write.

    Args:
        options: what to do; ``cutoff`` is that of the model.
        console: where to show results.

    Returns:
        The folder of the results.

    Raises:
        ValueError: for a model or data that make no sense, or do not fit together.
        FileNotFoundError: if a file does not exist.
        FileExistsError: if something would be overwritten.
    """
    folder = choose_folder(options, "-errors")
    potential = load_potential(options.model)
    options = dataclasses.replace(options, cutoff=potential.cutoff)
    structures = read_set(options, options.data)
    console.print(f"{structures}", highlight=False)
    _check_elements(potential, structures)
    evaluation = evaluate(potential, structures, batch_size=options.batch_size)
    title = f"Errors of {options.model} on {len(structures)} structures"
    console.print()
    console.print(evaluation.table(title))

    folder.mkdir(parents=True, exist_ok=True)
    evaluation.to_csv(folder / "errors.csv")
    evaluation.to_json(folder / "errors.json")
    evaluation.plot_parity(folder / "parity.png")
    console.print(f"\nWritten to {folder}/:", highlight=False)
    for name in ("errors.csv", "errors.json", "parity.png"):
        console.print(f"  {name}", highlight=False)
    return folder


def _check_elements(potential: LoadedPotential, structures: Structures) -> None:
    symbols = {SYMBOLS[z] for z in structures.elements}
    unknown = symbols - set(potential.elements)
    if not unknown:
        return
    numbers = [SYMBOLS.index(symbol) for symbol in unknown]
    has_unknown = np.isin(structures.atomic_numbers, numbers)
    count = len(np.unique(structures.structure_index[has_unknown]))
    raise ValueError(
        f"The model was trained on {', '.join(potential.elements)}. Received: "
        f"{join_symbols(numbers)} in {count} of {len(structures)} structures. Leave "
        "these structures out, or train on data that contain these elements."
    )
