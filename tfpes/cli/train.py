"""``tfpes train``."""

import os
import sys
from typing import Annotated, Any

import typer

from tfpes import finetuning
from tfpes.cli import options
from tfpes.cli.options import of_data, of_fit, of_statistics
from tfpes.distribute.launch import launch
from tfpes.losses import elementwise
from tfpes.terminal import PlainConsole
from tfpes.training import DEFAULT_MINUTES, Options, resume, train
from tfpes.training.options import Network, check_given


def train_command(
    context: typer.Context,
    data: options.Data = None,
    valid: Annotated[
        list[str] | None,
        of_data(help="Validation file(s); else a tenth of DATA."),
    ] = None,
    test: Annotated[
        list[str] | None, of_data(help="Test file(s); else a tenth of DATA.")
    ] = None,
    cutoff: options.Cutoff = Options.cutoff,
    energy_key: options.EnergyKey = Options.energy_key,
    forces_key: options.ForcesKey = Options.forces_key,
    stress_key: options.StressKey = Options.stress_key,
    virial_key: options.VirialKey = Options.virial_key,
    weight_key: options.WeightKey = Options.weight_key,
    config_weights: Annotated[
        str,
        of_data(
            metavar="TYPE=W,...",
            help="Weights by config_type, such as bulk=1,liquid=5; else 1.",
            show_default=False,
        ),
    ] = Options.config_weights,
    size_law: options.SizeLaw = Options.size_law,
    stats: Annotated[
        str | None,
        of_statistics(
            help="File of statistics by 'tfpes stats --save' to use, with its size "
            "law, instead of those of DATA."
        ),
    ] = None,
    energies_of_atoms: Annotated[
        str,
        of_statistics(
            metavar="file|EL=E,...",
            help="Energies of isolated atoms, eV, such as H=-13.6,O=-432: they fix the "
            "mean energies where compositions do not.",
        ),
    ] = Options.energies_of_atoms,
    epochs: Annotated[int | None, of_fit(min=1, help="Epochs.")] = None,
    minutes: Annotated[
        float | None,
        of_fit(help="Time, instead of epochs.", show_default=f"{DEFAULT_MINUTES:g}"),
    ] = None,
    batch_size: Annotated[
        int, of_fit(help="Structures in a batch.")
    ] = Options.batch_size,
    metric: Annotated[
        elementwise.Name, of_fit(help="Metric of the losses.")
    ] = Options.metric,
    energy_weight: Annotated[
        float, of_fit(help="Weight of the energy loss.")
    ] = Options.energy_weight,
    forces_weight: Annotated[
        float, of_fit(help="Weight of the force loss.")
    ] = Options.forces_weight,
    virial_weight: Annotated[
        float, of_fit(help="Weight of the virial loss, 0 for none.")
    ] = Options.virial_weight,
    ratio: Annotated[
        str | None,
        of_fit(
            metavar="R|START:END",
            help="Ratio of the energy to the force loss instead of --energy-weight: a "
            "number, or two such as 0.01:10, from one to the other by equal factors "
            "over the run. The sum of both weights is as for 1.",
        ),
    ] = None,
    delta: Annotated[
        float, of_fit(help="Of the metric huber, in standard deviations.")
    ] = Options.delta,
    learning_rate: Annotated[
        float, of_fit(help="Largest learning rate.")
    ] = Options.learning_rate,
    clip: Annotated[float, of_fit(help="Largest norm of the gradient.")] = Options.clip,
    weight_decay: Annotated[
        float, of_fit(help="Of the optimizer, per unit of learning rate.")
    ] = Options.weight_decay,
    ema: Annotated[
        float,
        of_fit(help="Momentum of averaged weights, such as 0.99; 0 for none."),
    ] = Options.ema,
    patience: Annotated[
        int | None,
        of_fit(min=1, help="Stop after so many epochs without a better one."),
    ] = None,
    network: Annotated[Network, of_fit(help="Kind of network.")] = Options.network,
    channels: Annotated[int, of_fit(help="Features per atom.")] = Options.channels,
    blocks: Annotated[int, of_fit(help="Interaction blocks.")] = Options.blocks,
    processes: Annotated[
        int,
        of_fit(
            min=1,
            help="Processes on this machine that share each batch, one for each GPU.",
        ),
    ] = 1,
    tf32: Annotated[
        bool,
        of_fit(
            "--tf32",
            help="Round factors of products to 10 bits while training, on GPUs that "
            "can: faster, less exact.",
        ),
    ] = Options.tf32,
    seed: Annotated[int, of_fit(help="Of the split and the weights.")] = Options.seed,
    start: Annotated[
        str | None,
        of_fit(
            "--from",
            help="Fine-tune: a '.keras' file, or the folder of a run, to begin with.",
        ),
    ] = None,
    baseline: Annotated[
        finetuning.Baseline,
        of_fit(
            help="With --from: 'refit' the mean energies to DATA, 'keep' all "
            "statistics, or 'adapt' all anew."
        ),
    ] = Options.baseline,
    resumed: Annotated[
        str | None,
        of_fit(
            "--resume", help="Go on with the run in this folder, with its own options."
        ),
    ] = None,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Train a potential on energies and forces, test it and export it."""
    if processes > 1 and "TF_CONFIG" not in os.environ:
        raise typer.Exit(launch(processes, sys.argv[1:]))
    # What was not asked for is left to `Options`, or to the run that goes on.
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in context.params.items()
        if name in Options.__dataclass_fields__ and _is_given(context, name)
    }
    if resumed is not None:
        resume(resumed, PlainConsole(), given)
        return
    check_given(given)
    train(Options(**given), PlainConsole())


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
