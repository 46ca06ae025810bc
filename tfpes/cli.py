"""The command ``tfpes``."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from tfpes.losses.elementwise import NAMES
from tfpes.stats import StatsOptions, stats
from tfpes.training import DEFAULT_MINUTES, Options, train

app = typer.Typer(
    help="Train potential energy surfaces with standardized losses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_DATA = "Data and splitting"
_STATISTICS = "Statistics"
_FIT = "Training"
_OUT = "Output"


# Options that several commands share.
Data = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of structures that ASE reads, or an embedded data set: "
        "'molecules' (default) or 'alloys'."
    ),
]
Cutoff = Annotated[
    float, typer.Option(help="Radius of neighbour lists, Å.", rich_help_panel=_DATA)
]
EnergyKey = Annotated[
    str, typer.Option(help="Name of the energies.", rich_help_panel=_DATA)
]
ForcesKey = Annotated[
    str, typer.Option(help="Name of the forces.", rich_help_panel=_DATA)
]
StressKey = Annotated[
    str, typer.Option(help="Name of the stress.", rich_help_panel=_DATA)
]
SizeLaw = Annotated[
    str,
    typer.Option(
        help="independent, collective or auto (see the statistics page).",
        rich_help_panel=_STATISTICS,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder of the results.  [default: a new one in runs/]",
        rich_help_panel=_OUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results.", rich_help_panel=_OUT),
]
Traceback = Annotated[
    bool,
    typer.Option(
        "--traceback", help="Show where an error arose.", rich_help_panel=_OUT
    ),
]


@contextlib.contextmanager
def _errors(traceback: bool) -> Iterator[None]:
    """Turn errors that a user can mend into one sentence and an exit code."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if traceback:
            raise
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command("train")
def train_command(
    data: Data = None,
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
            rich_help_panel=_STATISTICS,
        ),
    ] = None,
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
    seed: Annotated[
        int, typer.Option(help="Of the split and the weights.", rich_help_panel=_FIT)
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
    with _errors(traceback):
        train(options, Console())


@app.command("stats")
def stats_command(
    data: Data = None,
    cutoff: Cutoff = Options.cutoff,
    energy_key: EnergyKey = Options.energy_key,
    forces_key: ForcesKey = Options.forces_key,
    stress_key: StressKey = Options.stress_key,
    size_law: SizeLaw = Options.size_law,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="Pull outliers in to 2.5 standard deviations.",
            rich_help_panel=_STATISTICS,
        ),
    ] = False,
    save: Annotated[
        str | None,
        typer.Option(
            help="File for the statistics (JSON), for 'tfpes train --stats'.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Estimate the statistics of a data set, report on them and draw them."""
    options = StatsOptions(
        data=tuple(data or Options.data),
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
    with _errors(traceback):
        stats(options, Console())
