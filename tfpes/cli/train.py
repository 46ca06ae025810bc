"""``tfpes train``."""

from typing import Annotated, Any

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
from tfpes.training import DEFAULT_MINUTES, Options, resume, train
from tfpes.training.options import check_given


def train_command(
    context: typer.Context,
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
    stats: Annotated[
        str | None,
        typer.Option(
            "--stats",
            help="File of statistics by 'tfpes stats --save' to use, with its size "
            "law, instead of those of DATA.",
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
    network: Annotated[
        str, typer.Option(help="Network: schnet or painn.", rich_help_panel=FIT)
    ] = Options.network,
    channels: Annotated[
        int, typer.Option(help="Features per atom.", rich_help_panel=FIT)
    ] = Options.channels,
    blocks: Annotated[
        int, typer.Option(help="Interaction blocks.", rich_help_panel=FIT)
    ] = Options.blocks,
    seed: Annotated[
        int, typer.Option(help="Of the split and the weights.", rich_help_panel=FIT)
    ] = Options.seed,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Fine-tune: a '.keras' file, or the folder of a run, to begin with.",
            rich_help_panel=FIT,
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="With --from: 'refit' the mean energies to DATA, 'keep' all "
            "statistics, or 'adapt' all anew.",
            rich_help_panel=FIT,
        ),
    ] = Options.baseline,
    resumed: Annotated[
        str | None,
        typer.Option(
            "--resume",
            help="Go on with the run in this folder, with its own options.",
            rich_help_panel=FIT,
        ),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Train a potential on energies and forces, test it and export it."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in Options.__dataclass_fields__ and _is_given(context, name)
    }
    console = Console()
    with user_errors(traceback):
        if resumed is not None:
            resume(resumed, console, given)
            return
        check_given(given)
        train(Options(**given), console)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
