"""``tfpes stats``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import (
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
    user_errors,
)
from tfpes.stats import StatsOptions, stats


def stats_command(
    data: Data = None,
    cutoff: Cutoff = StatsOptions.cutoff,
    energy_key: EnergyKey = StatsOptions.energy_key,
    forces_key: ForcesKey = StatsOptions.forces_key,
    stress_key: StressKey = StatsOptions.stress_key,
    size_law: SizeLaw = StatsOptions.size_law,
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
    options = StatsOptions(
        data=tuple(data or StatsOptions.data),
        cutoff=cutoff,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        size_law=size_law,
        robust=robust,
        save=save,
        output=output,
        overwrite=overwrite,
    )
    with user_errors(traceback):
        stats(options, Console())
