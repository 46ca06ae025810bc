"""``tfpes train``."""

import functools
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
)
from tfpes.losses.elementwise import NAMES
from tfpes.training import DEFAULT_MINUTES, Options, resume, train
from tfpes.training.options import check_given

_data = functools.partial(typer.Option, rich_help_panel=DATA)
_fit = functools.partial(typer.Option, rich_help_panel=FIT)


def train_command(
    context: typer.Context,
    data: Data = None,
    valid: Annotated[
        list[str] | None, _data(help="Validation file(s); else a tenth of DATA.")
    ] = None,
    test: Annotated[
        list[str] | None, _data(help="Test file(s); else a tenth of DATA.")
    ] = None,
    cutoff: Cutoff = Options.cutoff,
    energy_key: EnergyKey = Options.energy_key,
    forces_key: ForcesKey = Options.forces_key,
    stress_key: StressKey = Options.stress_key,
    size_law: SizeLaw = Options.size_law,
    stats: Annotated[
        str | None,
        typer.Option(
            help="File of statistics by 'tfpes stats --save' to use, with its size "
            "law, instead of those of DATA.",
            rich_help_panel=STATISTICS,
        ),
    ] = None,
    epochs: Annotated[int | None, _fit(min=1, help="Epochs.")] = None,
    minutes: Annotated[
        float | None,
        _fit(help=f"Time, instead of epochs.  [default: {DEFAULT_MINUTES:g}]"),
    ] = None,
    batch_size: Annotated[
        int, _fit(help="Structures in a batch.")
    ] = Options.batch_size,
    metric: Annotated[
        str, _fit(help=f"Metric of the losses: {', '.join(NAMES)}.")
    ] = Options.metric,
    energy_weight: Annotated[
        float, _fit(help="Weight of the energy loss.")
    ] = Options.energy_weight,
    forces_weight: Annotated[
        float, _fit(help="Weight of the force loss.")
    ] = Options.forces_weight,
    learning_rate: Annotated[
        float, _fit(help="Largest learning rate.")
    ] = Options.learning_rate,
    network: Annotated[str, _fit(help="Network: schnet or painn.")] = Options.network,
    channels: Annotated[int, _fit(help="Features per atom.")] = Options.channels,
    blocks: Annotated[int, _fit(help="Interaction blocks.")] = Options.blocks,
    seed: Annotated[int, _fit(help="Of the split and the weights.")] = Options.seed,
    start: Annotated[
        str | None,
        _fit(
            "--from",
            help="Fine-tune: a '.keras' file, or the folder of a run, to begin with.",
        ),
    ] = None,
    baseline: Annotated[
        str,
        _fit(
            help="With --from: 'refit' the mean energies to DATA, 'keep' all "
            "statistics, or 'adapt' all anew."
        ),
    ] = Options.baseline,
    resumed: Annotated[
        str | None,
        _fit(
            "--resume", help="Go on with the run in this folder, with its own options."
        ),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Train a potential on energies and forces, test it and export it."""
    # What was not asked for is left to `Options`, or to the run that goes on.
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in Options.__dataclass_fields__ and _is_given(context, name)
    }
    if resumed is not None:
        resume(resumed, Console(), given)
        return
    check_given(given)
    train(Options(**given), Console())


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
