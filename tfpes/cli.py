"""The command ``tfpes``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.losses.elementwise import NAMES
from tfpes.training import DEFAULT_MINUTES, Options, train

app = typer.Typer(
    help="Train potential energy surfaces with standardized losses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_DATA = "Data and splitting"
_FIT = "Training"
_OUT = "Output"


@app.callback()
def main() -> None:
    """Keep ``train`` a subcommand, though it is the only one yet."""


@app.command("train")
def train_command(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of structures that ASE reads, or an embedded data set: "
            "'molecules' (default) or 'alloys'."
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            help="Validation file(s); else a tenth of DATA.", rich_help_panel=_DATA
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Test file(s); else a tenth of DATA.", rich_help_panel=_DATA),
    ] = None,
    cutoff: Annotated[
        float, typer.Option(help="Radius of neighbour lists, Å.", rich_help_panel=_DATA)
    ] = Options.cutoff,
    energy_key: Annotated[
        str, typer.Option(help="Name of the energies.", rich_help_panel=_DATA)
    ] = Options.energy_key,
    forces_key: Annotated[
        str, typer.Option(help="Name of the forces.", rich_help_panel=_DATA)
    ] = Options.forces_key,
    stress_key: Annotated[
        str, typer.Option(help="Name of the stress.", rich_help_panel=_DATA)
    ] = Options.stress_key,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs.", rich_help_panel=_FIT)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help=f"Time, instead of epochs.  [default: {DEFAULT_MINUTES:g}]",
            rich_help_panel=_FIT,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Structures in a batch.", rich_help_panel=_FIT)
    ] = Options.batch_size,
    metric: Annotated[
        str,
        typer.Option(
            help=f"Metric of the losses: {', '.join(NAMES)}.", rich_help_panel=_FIT
        ),
    ] = Options.metric,
    energy_weight: Annotated[
        float, typer.Option(help="Weight of the energy loss.", rich_help_panel=_FIT)
    ] = Options.energy_weight,
    forces_weight: Annotated[
        float, typer.Option(help="Weight of the force loss.", rich_help_panel=_FIT)
    ] = Options.forces_weight,
    learning_rate: Annotated[
        float, typer.Option(help="Largest learning rate.", rich_help_panel=_FIT)
    ] = Options.learning_rate,
    channels: Annotated[
        int, typer.Option(help="Features per atom.", rich_help_panel=_FIT)
    ] = Options.channels,
    blocks: Annotated[
        int, typer.Option(help="Interaction blocks.", rich_help_panel=_FIT)
    ] = Options.blocks,
    size_law: Annotated[
        str,
        typer.Option(
            help="independent, collective or auto (see the theory page).",
            rich_help_panel=_FIT,
        ),
    ] = Options.size_law,
    seed: Annotated[
        int, typer.Option(help="Of the split and the weights.", rich_help_panel=_FIT)
    ] = Options.seed,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run.  [default: runs/NAME-NUMBER, a new one]",
            rich_help_panel=_OUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a run.", rich_help_panel=_OUT),
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback", help="Show where an error arose.", rich_help_panel=_OUT
        ),
    ] = False,
) -> None:
    """Train a SchNet potential on energies and forces, test it and export it."""
    options = Options(
        data=tuple(data or Options.data),
        valid=tuple(valid or ()),
        test=tuple(test or ()),
        cutoff=cutoff,
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
        metric=metric,
        energy_weight=energy_weight,
        forces_weight=forces_weight,
        learning_rate=learning_rate,
        channels=channels,
        blocks=blocks,
        size_law=size_law,
        seed=seed,
        output=output,
        overwrite=overwrite,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    try:
        train(options, Console())
    except (ValueError, OSError, FloatingPointError) as error:
        if traceback:
            raise
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
