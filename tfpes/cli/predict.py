"""``tfpes predict``."""

import pathlib
from typing import Annotated

import ase.io
import numpy as np
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from tfpes.cli import options
from tfpes.data.sources import iterate
from tfpes.files import new_file, replacing
from tfpes.inference import Calculator
from tfpes.terminal import PlainConsole
from tfpes.training.options import require_positive


def predict_command(
    model: options.Model,
    data: Annotated[
        list[str], typer.Argument(help="Files of structures that ASE reads.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Extended XYZ file, *.xyz.")
    ],
    batch_size: Annotated[int, typer.Option(help="Structures in a batch.")] = 16,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Write structures with the energies, forces and stresses of a potential.

    In the order of the input. Its labels stay, with the prefix reference_.
    """
    require_positive(batch_size=batch_size)
    if pathlib.Path(output).suffix not in (".xyz", ".extxyz"):
        raise ValueError(
            "`--output` must be the name of an extended XYZ file, *.xyz. Received: "
            f"{str(output)!r}. ASE converts such a file: `ase convert`."
        )
    file = new_file(output, overwrite)
    calculator = Calculator(model)
    images = [atoms for _, atoms in iterate(data)]
    results = calculator.predict(images, batch_size, verbose=True)
    for atoms, result in zip(images, results, strict=True):
        _keep_labels(atoms)
        atoms.calc = SinglePointCalculator(atoms, **result)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as unfinished:
        ase.io.write(unfinished, images, format="extxyz")
    PlainConsole().print(
        f"{len(images)} structures, {sum(map(len, images))} atoms: written to {file}",
        soft_wrap=True,
    )


def _keep_labels(atoms: Atoms) -> None:
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
