"""The potential that a run trains: network, statistics, losses."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from rich.console import Console

from tfpes import finetuning
from tfpes.callbacks import CosineBudget, LossWeightSchedule
from tfpes.data import Structures
from tfpes.elements import (
    NUMBER_OF_COLUMNS,
    SYMBOLS,
    by_atomic_number,
    join_symbols,
)
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss, VirialLoss
from tfpes.metrics import (
    EnergyMAE,
    EnergyRMSE,
    ForceMAE,
    ForceRMSE,
    VirialMAE,
    VirialRMSE,
)
from tfpes.models import PaiNN, Potential, SchNet
from tfpes.targets import Tensor, structure_target
from tfpes.training.options import Options, ends
from tfpes.training.statistics import adapt


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
    options: Options,
    structures: Structures,
    console: Console,
    atoms: Mapping[str, float] | None = None,
) -> Potential:
    """Return a fresh network with the statistics of the structures, or of a file.

    Args:
        options: what to do.
        structures: to train on.
        console: for the report.
        atoms: energies of isolated atoms by symbol, eV.
    """
    if options.stats is None:
        alone = _isolated(atoms or {})
        normalization = adapt(
            structures, options.labels, alone, size_law=options.size_law
        )
    else:
        normalization = PESNormalization.from_json(options.stats)
        _check_statistics(options, normalization, structures)
        console.print(f"Statistics: {options.stats}", highlight=False)
    print_report(normalization, console)
    return Potential(
        _make_network(options),
        normalization,
        compute_virial=bool(options.virial_weight),
    )


def _isolated(atoms: Mapping[str, float]) -> list[dict[str, Tensor]]:
    """Return isolated atoms as a batch of targets, if there are any."""
    energy = by_atomic_number(atoms, "energies_of_atoms")
    rows = np.flatnonzero(np.isfinite(energy))
    target = structure_target(energy[rows], np.eye(NUMBER_OF_COLUMNS)[rows])
    return [{"energy": target}] if atoms else []


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
    model.compute_virial = model.compute_virial or bool(options.virial_weight)
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
) -> tuple[CosineBudget, LossWeightSchedule | None]:
    """Give a potential its optimizer, losses and metrics.

    Returns:
        The callbacks that the learning rate and, maybe, the loss weights depend on.
    """
    budget = CosineBudget(options.learning_rate, **options.budget)
    weights = {name: getattr(options, f"{name}_weight") for name in options.labels}
    schedule = None
    if options.ratio is not None:
        start, end = ends(options.ratio)

        def weight(power: int) -> Callable[[int], float]:
            """Return that of energies (1) or forces (0), r or 1 of 1 + r parts."""

            def value(_: int) -> float:
                r = start * (end / start) ** min(budget.progress, 1.0)
                return 2 * options.forces_weight * r**power / (1 + r)

            return value

        schedule = LossWeightSchedule(
            **{**weights, "energy": weight(1), "forces": weight(0)}
        )
        weights = schedule.weights
    losses = {"energy": EnergyLoss, "forces": ForceLoss, "virial": VirialLoss}
    metrics = {
        "energy": [EnergyMAE(), EnergyRMSE()],
        "forces": [ForceMAE(), ForceRMSE()],
        "virial": [VirialMAE(), VirialRMSE()],
    }
    model.compile(
        optimizer=keras.optimizers.Adam(
            budget.schedule,
            global_clipnorm=options.clip,
            weight_decay=options.weight_decay or None,
            use_ema=bool(options.ema),
            ema_momentum=options.ema or 0.99,
        ),
        loss={
            name: losses[name](model.normalization, options.metric, delta=options.delta)
            for name in options.labels
        },
        loss_weights=weights,
        metrics={name: metrics[name] for name in options.labels},
        steps_per_execution=steps_per_execution,
        jit_compile=True,
    )
    return budget, schedule


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
    for name in options.labels[1:]:
        if not getattr(options, f"{name}_weight"):
            continue
        try:
            normalization.require_adapted(name)
        except RuntimeError:
            raise ValueError(
                f"Training on {name} needs their scale. Received: "
                f"'{options.stats}', made of data without {name}. Make it of data "
                f"with {name}, or pass `--{name}-weight 0`."
            ) from None
