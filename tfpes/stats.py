"""Statistics of files of structures: report, pictures and a file to train with."""

import dataclasses
import pathlib

import numpy as np
from rich.console import Console

from tfpes.files import write_json
from tfpes.layers import PESNormalization
from tfpes.runs import (
    RunOptions,
    check_cutoff,
    choose_folder,
    print_report,
    read_set,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatsOptions(RunOptions):
    """What ``tfpes stats`` can be told; the command line describes each."""

    robust: bool = False
    save: str | None = None


def stats(options: StatsOptions, console: Console) -> pathlib.Path:
    """Read, adapt, print the report and draw the pictures.

    Args:
        options: what to do.
        console: where to show progress and results.

    Returns:
        The folder of the pictures.

    Raises:
        ValueError: for data or options that make no sense.
        FileNotFoundError: if a data file does not exist.
        FileExistsError: if something would be overwritten.
    """
    check_cutoff(options)
    save = _choose_file(options)
    folder = choose_folder(options, "-stats")
    structures = read_set(options, options.data)
    console.print(f"{structures}", highlight=False)
    present = tuple(
        name
        for name in ("energy", "forces", "virial")
        if not np.isnan(getattr(structures, name)).all()
    )
    normalization = PESNormalization(size_law=options.size_law, robust=options.robust)
    normalization.adapt(structures.batches(64, labels=present))
    print_report(normalization.report, console)

    # matplotlib takes a second to import.
    from tfpes.diagnostics import statistics_pictures

    folder.mkdir(parents=True, exist_ok=True)
    statistics_pictures.plot_statistics(folder, structures, normalization)
    write_json(folder / "report.json", normalization.report.as_dict())
    if save is not None:
        save.parent.mkdir(parents=True, exist_ok=True)
        normalization.to_json(save)
    console.print(f"\nWritten to {folder}/:", highlight=False)
    for path in sorted(folder.iterdir()):
        console.print(f"  {path.name}", highlight=False)
    if save is not None:
        console.print(
            f"\nTrain with these statistics:\n  tfpes train DATA --stats {save}",
            highlight=False,
            soft_wrap=True,
        )
    return folder


def _choose_file(options: StatsOptions) -> pathlib.Path | None:
    if options.save is None:
        return None
    path = pathlib.Path(options.save)
    if path.is_dir():
        raise FileExistsError(
            f"`--save` must be the name of a file. Received: {options.save!r}, a "
            "folder. Name a file in it."
        )
    if path.exists() and not options.overwrite:
        raise FileExistsError(
            f"`--save` must be a new file. Received: {options.save!r}, which exists. "
            "Choose another one, or pass `--overwrite`."
        )
    return path
