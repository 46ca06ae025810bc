"""Files of what a potential says of structures."""

import dataclasses
import pathlib
from collections.abc import Sequence

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from tfpes.data.read import iterate
from tfpes.files import replacing
from tfpes.inference.calculator import Calculator


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What ``tfpes predict`` can be told; the command line describes each."""

    model: str
    data: Sequence[str]
    output: str
    batch_size: int = 16
    overwrite: bool = False


def predict_file(options: PredictOptions, console: Console) -> pathlib.Path:
    """Evaluate the structures of files and write them with the results.

    Args:
        options: what to do.
        console: where to say so.

    Returns:
        The file, an extended XYZ, in the order of the input. What the potential says
        is in the place of calculator results; labels of the input get the prefix
        ``reference_``. The file is written completely or not at all.

    Raises:
        ValueError: for a bad model or structure.
        FileNotFoundError: if a file does not exist.
        FileExistsError: if a file would be overwritten.
    """
    path = _check_output(options)
    calculator = Calculator(options.model)
    images = [atoms for _, atoms in iterate(options.data)]
    results = calculator.predict(images, options.batch_size, verbose=True)
    for atoms, result in zip(images, results, strict=True):
        keep_labels(atoms)
        atoms.calc = SinglePointCalculator(atoms, **result)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        ase.io.write(unfinished, images, format="extxyz")
    console.print(
        f"{len(images)} structures, {sum(map(len, images))} atoms: written to {path}",
        highlight=False,
        soft_wrap=True,
    )
    return path


def keep_labels(atoms: Atoms) -> None:
    """Move calculator results to ``info`` and ``arrays``, as ``reference_...``.

    A label of that name that is there already stays: results are then predictions.
    """
    labels = dict(getattr(atoms.calc, "results", {}))
    for holder in (atoms.info, atoms.arrays):
        for name in ("energy", "free_energy", "forces", "stress"):
            if name in holder:
                labels[name] = holder.pop(name)
    for name, value in labels.items():
        per_atom = np.ndim(value) and len(value) == len(atoms) and name != "stress"
        holder = atoms.arrays if per_atom else atoms.info
        if value is not None:
            holder.setdefault(f"reference_{name}", value)
    atoms.calc = None


def _check_output(options: PredictOptions) -> pathlib.Path:
    path = pathlib.Path(options.output)
    if options.batch_size < 1:
        raise ValueError(
            f"`--batch-size` must be positive. Received: {options.batch_size}."
        )
    if path.suffix not in (".xyz", ".extxyz") or path.is_dir():
        raise ValueError(
            "`--output` must be the name of an extended XYZ file, *.xyz. Received: "
            f"{options.output!r}. ASE converts such a file: `ase convert`."
        )
    if path.exists() and not options.overwrite:
        raise FileExistsError(
            f"`--output` must be a new file. Received: {options.output!r}, which "
            "exists. Choose another one, or pass `--overwrite`."
        )
    return path
