"""``tfpes train``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import (
    DATA,
    FIT,
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
from tfpes.losses.elementwise import NAMES
from tfpes.training import DEFAULT_MINUTES, Options, train


def train_command(
    data: Data = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            help="Validation file(s); else a tenth of DATA.", rich_help_panel=DATA
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Test file(s); else a tenth of DATA.", rich_help_panel=DATA),
    ] = None,
    cutoff: Cutoff = Options.cutoff,
    energy_key: EnergyKey = Options.energy_key,
    forces_key: ForcesKey = Options.forces_key,
    stress_key: StressKey = Options.stress_key,
    size_law: SizeLaw = Options.size_law,
    statistics: Annotated[
        str | None,
        typer.Option(
            "--stats",
            help="File of statistics by 'tfpes stats --save' to use instead of those "
            "of DATA (and of --size-law).",
            rich_help_panel=STATISTICS,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs.", rich_help_panel=FIT)
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help=f"Time, instead of epochs.  [default: {DEFAULT_MINUTES:g}]",
            rich_help_panel=FIT,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Structures in a batch.", rich_help_panel=FIT)
    ] = Options.batch_size,
    metric: Annotated[
        str,
        typer.Option(
            help=f"Metric of the losses: {', '.join(NAMES)}.", rich_help_panel=FIT
        ),
    ] = Options.metric,
    energy_weight: Annotated[
        float, typer.Option(help="Weight of the energy loss.", rich_help_panel=FIT)
    ] = Options.energy_weight,
    forces_weight: Annotated[
        float, typer.Option(help="Weight of the force loss.", rich_help_panel=FIT)
    ] = Options.forces_weight,
    learning_rate: Annotated[
        float, typer.Option(help="Largest learning rate.", rich_help_panel=FIT)
    ] = Options.learning_rate,
    channels: Annotated[
        int, typer.Option(help="Features per atom.", rich_help_panel=FIT)
    ] = Options.channels,
    blocks: Annotated[
        int, typer.Option(help="Interaction blocks.", rich_help_panel=FIT)
    ] = Options.blocks,
    seed: Annotated[
        int, typer.Option(help="Of the split and the weights.", rich_help_panel=FIT)
    ] = Options.seed,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
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
        stats=statistics,
        seed=seed,
        output=output,
        overwrite=overwrite,
        energy_key=energy_key,
        forces_key=forces_key,
        stress_key=stress_key,
    )
    with user_errors(traceback):
        train(options, Console())
