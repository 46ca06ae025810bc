"""``tfpes stats``."""

import pathlib
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from tfpes.cli.options import (
    DEFAULT_DATA,
    OUT,
    STATISTICS,
    Cutoff,
    Data,
    EnergyKey,
    ForcesKey,
    Output,
    Overwrite,
    SizeLaw,
    StressKey,
    Traceback,
)
from tfpes.data import read_or_load
from tfpes.diagnostics.statistics_pictures import plot_statistics
from tfpes.files import listing, new_file, new_folder, write_json
from tfpes.layers import PESNormalization
from tfpes.training.options import require_positive
from tfpes.training.potential import print_report


def stats_command(
    data: Data = None,
    cutoff: Cutoff = 5.0,
    energy_key: EnergyKey = "energy",
    forces_key: ForcesKey = "forces",
    stress_key: StressKey = "stress",
    size_law: SizeLaw = "auto",
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="Pull outliers in to 2.5 standard deviations.",
            rich_help_panel=STATISTICS,
        ),
    ] = False,
    save: Annotated[
        str | None,
        typer.Option(
            help="File for the statistics (JSON), for 'tfpes train --stats'.",
            rich_help_panel=OUT,
        ),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Estimate the statistics of a data set, report on them and draw them."""
    console = Console()
    data = data or DEFAULT_DATA
    require_positive(cutoff=cutoff)
    file = None if save is None else new_file(save, overwrite, "--save")
    folder = new_folder(output, overwrite, f"{pathlib.Path(data[0]).stem}-stats")
    normalization = PESNormalization(size_law=size_law, robust=robust)
    structures = read_or_load(
        data,
        cutoff,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    console.print(f"{structures}", highlight=False)
    present = tuple(
        name
        for name in ("energy", "forces", "virial")
        if not np.isnan(getattr(structures, name)).all()
    )
    normalization.adapt(structures.batches(64, labels=present))
    print_report(normalization.report, console)

    # Only now, when nothing is wrong with the data.
    folder.mkdir(parents=True, exist_ok=True)
    plot_statistics(folder, structures, normalization)
    write_json(folder / "report.json", normalization.report.as_dict())
    console.print(f"\n{listing(folder)}", highlight=False)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        normalization.to_json(file)
        console.print(
            f"\nTrain with these statistics:\n  tfpes train DATA --stats {file}",
            highlight=False,
            soft_wrap=True,
        )
