"""``tfpes evaluate``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import (
    DATA,
    EnergyKey,
    ForcesKey,
    Output,
    Overwrite,
    StressKey,
    Traceback,
    user_errors,
)
from tfpes.evaluation.command import EvaluateOptions, evaluate_files


def evaluate_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A .keras file, the folder of a run of 'tfpes train', or a SavedModel."
        ),
    ],
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files of structures that ASE reads, or an embedded data set: "
            "'molecules' or 'alloys'."
        ),
    ],
    energy_key: EnergyKey = EvaluateOptions.energy_key,
    forces_key: ForcesKey = EvaluateOptions.forces_key,
    stress_key: StressKey = EvaluateOptions.stress_key,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Structures in a batch.", rich_help_panel=DATA),
    ] = EvaluateOptions.batch_size,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Compare a potential with labels: overall, by size, element and config_type.

    Neighbour lists have the cutoff of the model. Writes errors.csv, errors.json and
    parity.png.
    """
    options = EvaluateOptions(
        model=model,
        data=tuple(data),
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
        batch_size=batch_size,
        output=output,
        overwrite=overwrite,
    )
    with user_errors(traceback):
        evaluate_files(options, Console())
