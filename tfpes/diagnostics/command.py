"""A page about files of structures, and about a model on them."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

from ase.io import iread
from rich.console import Console

from tfpes.data.structures import Structures
from tfpes.diagnostics.diagnosis import diagnose
from tfpes.diagnostics.page import to_html
from tfpes.files import replacing
from tfpes.inference.loading import load_potential
from tfpes.runs import RunOptions, check_cutoff, read_set


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseOptions(RunOptions):
    """What ``tfpes diagnose`` can be told; the command line describes each."""

    model: str | None = None
    batch_size: int = 16


def diagnose_files(options: DiagnoseOptions, console: Console) -> pathlib.Path:
    """Read, examine, print the advice and write the page.

    Args:
        options: what to do. With a model, its cutoff is taken.
        console: where to show the advice.

    Returns:
        The page.

    Raises:
        ValueError: for data, a model or options that make no sense.
        FileNotFoundError: if a file does not exist.
        FileExistsError: if something would be overwritten.
    """
    path = _choose_page(options)
    check_cutoff(options)
    potential = None
    if options.model is not None:
        potential = load_potential(options.model)
        options = dataclasses.replace(options, cutoff=potential.cutoff)
    structures = read_set(options, options.data)
    console.print(f"{structures}", highlight=False)
    diagnosis = diagnose(structures, potential, batch_size=options.batch_size)
    title = "Diagnosis of " + ", ".join(
        pathlib.Path(name).name for name in options.data
    )
    if options.model is not None:
        title += f" and of {pathlib.Path(options.model).name}"
    page = to_html(diagnosis, title, _places(options.data, structures))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    console.print()
    for sentence in diagnosis.advice:
        console.print(f"* {sentence}", highlight=False, markup=False)
    console.print(f"\nWritten to {path}", highlight=False, soft_wrap=True)
    return path


def _choose_page(options: DiagnoseOptions) -> pathlib.Path:
    if options.output is None:
        path = pathlib.Path(f"{pathlib.Path(options.data[0]).stem}-diagnosis.html")
    else:
        path = pathlib.Path(options.output)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(
            f"`--output` must be the name of a .html file. Received: {str(path)!r}. "
            "Give it that ending."
        )
    if path.is_dir() or (path.exists() and not options.overwrite):
        raise FileExistsError(
            f"`--output` must be a new file. Received: {str(path)!r}, which exists. "
            "Choose another one, or pass `--overwrite`."
        )
    return path


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
