"""What the commands share: options, reading and folders."""

import dataclasses
import pathlib
from collections.abc import Sequence

from rich.console import Console

from tfpes.data import Structures, read_or_load
from tfpes.statistics import Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every command."""

    data: Sequence[str] = ("molecules",)
    cutoff: float = 5.0
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str = "stress"
    size_law: str = "auto"
    output: str | None = None
    overwrite: bool = False


def check_cutoff(options: RunOptions) -> None:
    """Raise a ValueError unless the cutoff is positive."""
    if not options.cutoff > 0:
        raise ValueError(f"`--cutoff` must be positive. Received: {options.cutoff}.")


def read_set(options: RunOptions, paths: Sequence[str]) -> Structures:
    """Read files, or load the embedded data set of that name."""
    return read_or_load(
        paths,
        options.cutoff,
        energy_key=options.energy_key,
        forces_key=options.forces_key,
        stress_key=options.stress_key,
    )


def choose_folder(options: RunOptions, suffix: str = "") -> pathlib.Path:
    """Return a folder that holds no run yet, or one that may be overwritten.

    Args:
        options: of the command.
        suffix: of the name of the data, for the default folder.

    Raises:
        FileExistsError: if the folder has a run that must not be overwritten.
    """
    if options.output is None:
        name = pathlib.Path(options.data[0]).stem + suffix
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


def print_report(report: Report, console: Console) -> None:
    """Print the report on the statistics."""
    console.print()
    console.print(str(report), markup=False, highlight=False, soft_wrap=True)
