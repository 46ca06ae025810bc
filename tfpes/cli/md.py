"""``tfpes md``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import Output, Overwrite, Traceback, user_errors
from tfpes.cli.predict import Model
from tfpes.cli._dynamics import ENSEMBLES, DynamicsOptions, run_dynamics


def md_command(
    model: Model,
    start: Annotated[
        str,
        typer.Argument(
            help="File that ASE reads; its last structure is the start. Velocities in "
            "it are used."
        ),
    ],
    ensemble: Annotated[
        str, typer.Option(help=f"{', '.join(ENSEMBLES)}.")
    ] = DynamicsOptions.ensemble,
    temperature: Annotated[
        float, typer.Option(help="Of the thermostat and of drawn velocities, K.")
    ] = DynamicsOptions.temperature,
    pressure: Annotated[
        float, typer.Option(help="Of the barostat, GPa.")
    ] = DynamicsOptions.pressure,
    time_step: Annotated[
        float, typer.Option(help="Femtoseconds.")
    ] = DynamicsOptions.time_step,
    steps: Annotated[
        int, typer.Option(help="Number of time steps.")
    ] = DynamicsOptions.steps,
    interval: Annotated[
        int, typer.Option(help="Steps between frames and rows of the log.")
    ] = DynamicsOptions.interval,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell in each direction.")
    ] = DynamicsOptions.repeat,
    seed: Annotated[
        int, typer.Option(help="Of the velocities and the thermostat.")
    ] = DynamicsOptions.seed,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Run molecular dynamics with a potential."""
    options = DynamicsOptions(
        model=model,
        start=start,
        ensemble=ensemble,
        temperature=temperature,
        pressure=pressure,
        time_step=time_step,
        steps=steps,
        interval=interval,
        repeat=repeat,
        seed=seed,
        output=output,
        overwrite=overwrite,
    )
    with user_errors(traceback):
        run_dynamics(options, Console())
