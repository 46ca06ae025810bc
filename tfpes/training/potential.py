"""The potential that a run trains: network, statistics, losses."""

import dataclasses
from typing import Any

import keras
import numpy as np
from rich.console import Console

from tfpes import finetuning
from tfpes.callbacks import CosineBudget
from tfpes.data import Structures
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.metrics import EnergyMAE, EnergyRMSE, ForceMAE, ForceRMSE
from tfpes.models import PaiNN, Potential, SchNet
from tfpes.training.options import Options


def _make_network(options: Options) -> Any:
    """Return a fresh network."""
    networks = {"schnet": SchNet, "painn": PaiNN}
    if options.network not in networks:
        raise ValueError(
            f"`--network` must be one of {', '.join(networks)}. Received: "
            f"{options.network!r}."
        )
    return networks[options.network](options.cutoff, options.channels, options.blocks)


def print_report(normalization: PESNormalization, console: Console) -> None:
    """Print the report on the statistics, if there is one."""
    if normalization.has_report:
        report = f"\n{normalization.report}"
        console.print(report, markup=False, highlight=False, soft_wrap=True)


def new_potential(
    options: Options, structures: Structures, console: Console
) -> Potential:
    """Return a fresh network with the statistics of the structures, or of a file."""
    if options.stats is None:
        normalization = PESNormalization(size_law=options.size_law)
        normalization.adapt(structures.batches(64))
    else:
        normalization = PESNormalization.from_json(options.stats)
        _check_statistics(options, normalization, structures)
        console.print(f"Statistics: {options.stats}", highlight=False)
    print_report(normalization, console)
    return Potential(_make_network(options), normalization)


def continued_potential(
    options: Options, model: Potential, structures: Structures, console: Console
) -> Potential:
    """Return a trained potential with its statistics adjusted to the structures."""
    normalization = model.normalization
    before = normalization.energy_mean.numpy()
    if options.baseline == "adapt":
        normalization.options = dataclasses.replace(
            normalization.options, size_law=options.size_law
        )
    finetuning.prepare(model, structures, options.baseline)
    console.print(f"Model: {options.start}, baseline: {options.baseline}")
    print_report(normalization, console)
    shift = normalization.energy_mean.numpy() - before
    moved = ", ".join(
        f"{SYMBOLS[number]} {shift[number]:+.4f}"
        for number in structures.elements.tolist()
        if shift[number]
    )
    if moved:
        console.print(f"Change of the mean energies, eV: {moved}", highlight=False)
    return model


def compile_potential(
    model: Potential, options: Options, steps_per_execution: int = 1
) -> CosineBudget:
    """Give a potential its optimizer, losses and metrics.

    Returns:
        The callback that the learning rate depends on.
    """
    normalization = model.normalization
    budget = CosineBudget(options.learning_rate, **options.budget)
    model.compile(
        optimizer=keras.optimizers.Adam(budget.schedule, global_clipnorm=10.0),
        loss={
            "energy": EnergyLoss(normalization, options.metric),
            "forces": ForceLoss(normalization, options.metric),
        },
        loss_weights={
            "energy": options.energy_weight,
            "forces": options.forces_weight,
        },
        metrics={
            "energy": [EnergyMAE(), EnergyRMSE()],
            "forces": [ForceMAE(), ForceRMSE()],
        },
        steps_per_execution=steps_per_execution,
        jit_compile=True,
    )
    return budget


def _check_statistics(
    options: Options, normalization: PESNormalization, structures: Structures
) -> None:
    known = np.flatnonzero(normalization.seen.numpy())
    unknown = set(structures.elements.tolist()) - set(known.tolist())
    if unknown:
        raise ValueError(
            "The statistics of `--stats` must cover the elements of the data, "
            f"{join_symbols(structures.elements)}. Received: '{options.stats}' "
            f"without {join_symbols(unknown)}. Make statistics of data that hold "
            "them with `tfpes stats --save`, or leave `--stats` out."
        )
    if options.forces_weight:
        try:
            normalization.require_adapted("forces")
        except RuntimeError:
            raise ValueError(
                "Training on forces needs their scale. Received: "
                f"'{options.stats}', made of data without forces. Make it of data "
                "with forces, or pass `--forces-weight 0`."
            ) from None
