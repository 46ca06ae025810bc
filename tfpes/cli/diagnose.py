"""``tfpes diagnose``."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import typer
from ase.io import iread

from tfpes.cli import options
from tfpes.cli.options import known_to, of_output, sample
from tfpes.data import Structures, read_or_load
from tfpes.diagnostics import diagnose, to_html
from tfpes.files import new_file, replacing
from tfpes.inference import load_potential
from tfpes.terminal import PlainConsole
from tfpes.training.config import TRAINED_ON, trained_on
from tfpes.training.options import require_positive


def diagnose_command(
    data: options.Data = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Look at the errors of this one too: a .keras file, the folder of a "
            "run of 'tfpes train', or a SavedModel. Its cutoff is taken."
        ),
    ] = None,
    cutoff: options.Cutoff = 5.0,
    energy_key: options.EnergyKey = "energy",
    forces_key: options.ForcesKey = "forces",
    stress_key: options.StressKey = "stress",
    virial_key: options.VirialKey = "virial",
    batch_size: options.BatchSize = 16,
    output: Annotated[
        str | None,
        of_output(
            "--output",
            "-o",
            help="Page to write, *.html.",
            show_default="DATA-diagnosis.html",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Write a page on a data set: statistics, loss weights, outliers and advice.

    One HTML file with its pictures inside. With --model, the errors of a potential too.
    """
    console = PlainConsole()
    data = data or options.DEFAULT_DATA
    path = output or f"{pathlib.Path(data[0]).stem}-diagnosis.html"
    if pathlib.Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"`--output` must be the name of a .html file. Received: {path!r}. "
            "Give it that ending."
        )
    file = new_file(path, overwrite)
    require_positive(cutoff=cutoff)
    title = "Diagnosis of " + ", ".join(pathlib.Path(name).name for name in data)
    potential = None
    if model is not None:
        potential = load_potential(model)
        cutoff = potential.cutoff
        title += f" and of {pathlib.Path(model).name}"
    structures = read_or_load(
        data,
        cutoff,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        virial_key=virial_key,
    )
    console.print(f"{structures}", highlight=False)
    structures = sample(structures, 5000, console)
    place = _places(data, structures)
    if potential is not None:
        kept = np.flatnonzero(known_to(potential, structures, console))
        structures, among = structures[kept], place
        place = lambda index: among(kept[index])  # noqa: E731
    known = None if model is None else trained_on(model, structures)
    if known is not None and known.any():
        console.print(TRAINED_ON.format(known.sum()))
    diagnosis = diagnose(structures, potential, batch_size=batch_size, trained_on=known)
    page = to_html(diagnosis, title, place)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    for title, sentences in (
        ("To do", diagnosis.to_do), ("To know", diagnosis.to_know),
    ):  # fmt: skip
        if sentences:
            console.print("\n".join([f"\n{title}", *(f"* {s}" for s in sentences)]))
    console.print(f"\nWritten to {file}", highlight=False, soft_wrap=True)


def _places(paths: Sequence[str], structures: Structures) -> Callable[[int], str]:
    """Return what says which frame of which file a structure is."""
    if len(paths) == 1:
        name = pathlib.Path(paths[0]).name
        return lambda index: f"{name} #{index}"
    # Only the sum of the lengths is known, which the last one need not be counted for.
    lengths = [sum(1 for _ in iread(path, ":")) for path in paths[:-1]]
    lengths.append(len(structures) - sum(lengths))
    places = [
        f"{pathlib.Path(path).name} #{frame}"
        for path, length in zip(paths, lengths, strict=True)
        for frame in range(length)
    ]
    return places.__getitem__
