"""``tfpes diagnose``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import (
    DATA,
    OUT,
    Cutoff,
    Data,
    EnergyKey,
    ForcesKey,
    Overwrite,
    StressKey,
    Traceback,
    user_errors,
)
from tfpes.diagnostics.command import DiagnoseOptions, diagnose_files


def diagnose_command(
    data: Data = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Look at the errors of this one too: a .keras file, the folder of a "
            "run of 'tfpes train', or a SavedModel. Its cutoff is taken."
        ),
    ] = None,
    cutoff: Cutoff = DiagnoseOptions.cutoff,
    energy_key: EnergyKey = DiagnoseOptions.energy_key,
    forces_key: ForcesKey = DiagnoseOptions.forces_key,
    stress_key: StressKey = DiagnoseOptions.stress_key,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1, help="Structures in a batch of the model.", rich_help_panel=DATA
        ),
    ] = DiagnoseOptions.batch_size,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Page to write, *.html.  [default: DATA-diagnosis.html]",
            rich_help_panel=OUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Write a page on a data set: statistics, loss weights, outliers and advice.

    One HTML file with its pictures inside. With --model, the errors of a potential too.
    """
    options = DiagnoseOptions(
        data=tuple(data or DiagnoseOptions.data),
        model=model,
        cutoff=cutoff,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        batch_size=batch_size,
        output=output,
        overwrite=overwrite,
    )
    with user_errors(traceback):
        diagnose_files(options, Console())
