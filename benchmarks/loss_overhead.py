"""The cost of losses and metrics in a training step, and of padding in an epoch.

    python benchmarks/loss_overhead.py [SET ...] [--rounds 75] [--batch-size 8]
    python benchmarks/loss_overhead.py --padding-only

A set is the name of an embedded one, of a file in ../shared/data, or a path; by default
`mptrj_random_1k`, `alloys` and `molecules`. Three copies of one model take the same
steps: with plain Keras `MeanSquaredError` on the same outputs, with `EnergyLoss` and
`ForceLoss`, and with all metrics as well. They take turns in blocks of a few steps, so
that all see the same machine; the ratios are medians over pairs of blocks, with their
standard errors. CPU time is that of all threads.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import tfpes
from tfpes.data.embedded import EMBEDDED
from tfpes.targets import split_atom_target, split_structure_target

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
SETS = ("mptrj_random_1k", "alloys", "molecules")
SHARED_SETS = ("nbmotaw_mvl", "mlearn6", "mptrj_random_1k", "acac_botnet")
STEPS = 2
console = Console(width=100)


def load(name):
    """Return an embedded set or one from a file; None for a shared one not there."""
    if name in EMBEDDED:
        return tfpes.data.load(name)
    path = SHARED / f"{name}.xyz" if name in SHARED_SETS else pathlib.Path(name)
    if not path.exists():
        console.print(f"{path.name} is not in {path.parent}: left out")
        return None
    return tfpes.data.read(path, 5.0, verbose=False)


# -- a training step ------------------------------------------------------------------


def plain(inputs, targets):
    """Unpack the targets; plain losses need a number where there is no label."""
    energy, _ = split_structure_target(targets["energy"])
    forces, _, _ = split_atom_target(targets["forces"])
    labels = {"energy": energy, "forces": forces}
    return inputs, {
        key: tf.where(tf.math.is_nan(value), tf.zeros_like(value), value)
        for key, value in labels.items()
    }


def metrics(norm):
    """Return all metrics that `compile` takes."""
    return {
        "energy": [
            tfpes.metrics.EnergyMAE(),
            tfpes.metrics.EnergyRMSE(),
            tfpes.metrics.StandardizedRMSE(norm, "energy"),
        ],
        "forces": [
            tfpes.metrics.ForceMAE(),
            tfpes.metrics.ForceRMSE(),
            tfpes.metrics.ForceCosine(),
            tfpes.metrics.MaxForceError(),
            tfpes.metrics.StandardizedRMSE(norm, "forces"),
        ],
    }


def blocks(norm, dataset, losses, metrics=None):
    """Yield after each block of steps, as `fit` takes them; None, logs, logs, ..."""
    keras.utils.set_random_seed(0)
    model = tfpes.models.Potential(tfpes.models.SchNet(), norm)
    model.compile(
        keras.optimizers.Adam(1e-4), losses, metrics=metrics, jit_compile=True
    )
    model.make_train_function()
    iterator = iter(dataset.repeat())
    for _ in range(len(dataset)):
        # Compiles each shape.
        logs = model.train_function(iterator)
    yield None
    while True:
        for _ in range(STEPS):
            logs = model.train_function(iterator)
        yield {name: float(value) for name, value in logs.items()}


def overhead(name, structures, batch_size, rounds):
    """Print the cost of a step relative to one with plain losses."""
    norm = tfpes.layers.PESNormalization(size_law="auto")
    dataset = structures.batches(batch_size)
    norm.adapt(dataset)
    # Few batches, held in memory, of all shapes: the step is measured, not the data.
    some = dataset.shard(max(len(dataset) // 40, 1), 0).cache()
    ours = {
        "energy": tfpes.losses.EnergyLoss(norm),
        "forces": tfpes.losses.ForceLoss(norm),
    }
    mean_squares = dict.fromkeys(ours, "mse")
    variants = {
        "plain Keras MSE": blocks(norm, some.map(plain).cache(), mean_squares),
        "EnergyLoss + ForceLoss": blocks(norm, some, ours),
        "and all metrics": blocks(norm, some, ours, metrics(norm)),
    }
    for variant in variants.values():
        next(variant)
    # (variants, rounds, clocks)
    times = np.zeros((len(variants), rounds, 2))
    order = np.random.default_rng(0)
    for round_ in range(rounds):
        for which in order.permutation(len(variants)):
            start = np.array([time.perf_counter(), time.process_time()])
            logs = next(list(variants.values())[which])
            stop = np.array([time.perf_counter(), time.process_time()])
            times[which, round_] = (stop - start) / STEPS
            if not np.isfinite(list(logs.values())).all():
                raise SystemExit(f"Not finite: {logs}")
    table = Table(
        "",
        "ms per step",
        "relative",
        "CPU ms per step",
        "relative",
        title=f"{name}: {structures!r}, batches of {batch_size}",
    )
    for label, each in zip(variants, times, strict=True):
        cells = []
        for clock in range(2):
            ratio = each[:, clock] / times[0, :, clock]
            error = 1.253 * ratio.std() / np.sqrt(rounds)  # of a median
            cells += [
                f"{1e3 * np.median(each[:, clock]):.1f}",
                f"{np.median(ratio):.3f} ± {error:.3f}",
            ]
        table.add_row(label, *cells)
    console.print(table)


# -- padding --------------------------------------------------------------------------


def padding(names, batch_size):
    """Print how many shapes an epoch has and what of it is padding."""
    table = Table(
        "set",
        "batches",
        "shapes",
        "atoms wasted",
        "edges wasted",
        title=f"an epoch of shuffled batches of {batch_size}",
    )
    for name in names:
        structures = load(name)
        if structures is None:
            continue
        batches, shapes, atoms, edges = 0, set(), 0, 0
        for inputs, _ in structures.batches(batch_size, shuffle=True, seed=1):
            counts = len(inputs["positions"]), inputs["edge_index"].shape[1]
            shapes.add(counts)
            batches, atoms, edges = batches + 1, atoms + counts[0], edges + counts[1]
        table.add_row(
            name.rsplit("/", 1)[-1],
            str(batches),
            str(len(shapes)),
            f"{1 - len(structures.positions) / atoms:.1%}",
            f"{1 - structures.edge_index.shape[1] / edges:.1%}",
        )
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--rounds", type=int, default=75)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--padding-only", action="store_true")
    arguments = parser.parse_args()
    padding(arguments.sets or (*SHARED_SETS, *EMBEDDED), arguments.batch_size)
    if not arguments.padding_only:
        for name in arguments.sets or SETS:
            structures = load(name)
            if structures is not None:
                overhead(name, structures, arguments.batch_size, arguments.rounds)
