"""Our steps: python ours.py MODEL [ATOMS]."""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

import tfpes

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
CUTOFF, BATCH_SIZE, CHANNELS, BLOCKS = 5.0, 8, 64, 3
BASIS_SIZE = {"SchNet": 50, "PaiNN": 20}


def make_model(name, normalization):
    """Return our potential, compiled."""
    keras.utils.set_random_seed(0)
    network = getattr(tfpes.models, name)(
        CUTOFF, CHANNELS, BLOCKS, basis_size=BASIS_SIZE[name]
    )
    model = tfpes.models.Potential(network, normalization)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss={
            "energy": tfpes.losses.EnergyLoss(normalization),
            "forces": tfpes.losses.ForceLoss(normalization),
        },
        jit_compile=True,
    )
    return model


def read():
    """Return the structures and their statistics."""
    path = SHARED / "nbmotaw_mvl.xyz"
    if path.exists():
        structures = tfpes.data.read(path, CUTOFF, verbose=False)
    else:
        print(f"{path.name} is not in {SHARED}: the embedded alloys instead")
        structures = tfpes.data.load("alloys")
    structures = structures[~structures.isolated_atoms]
    normalization = tfpes.layers.PESNormalization()
    normalization.adapt(structures.batches(64), verbose=0)
    return structures, normalization


def write_batches(path):
    """Write the batches that `serve_ours` takes, without padding, and the scales."""
    structures, normalization = read()
    arrays = {"count": 8}
    for number, (x, y) in enumerate(structures.batches(BATCH_SIZE).take(8)):
        x, y = ({k: v.numpy() for k, v in d.items()} for d in (x, y))
        atoms, labelled = x["atomic_numbers"] > 0, ~np.isnan(y["energy"][:, 0])
        edges = atoms[x["edge_index"][0]]
        counts = y["energy"][labelled, 2:]
        numbers = x["atomic_numbers"][atoms]
        scale = normalization.force_scale.numpy()[numbers, None]
        batch = {
            "positions": x["positions"][atoms],
            "atomic_numbers": numbers,
            "structure_index": x["structure_index"][atoms],
            "cell": x["cell"][labelled],
            "edge_index": x["edge_index"][:, edges],
            "edge_shift": x["edge_shift"][edges],
            "energy": y["energy"][labelled, 0],
            "baseline": np.asarray(normalization.energy_baseline(counts)),
            "energy_scale": np.asarray(normalization.energy_scale(counts)),
            "forces": y["forces"][atoms, :3],
            "force_scale": np.repeat(scale, 3, axis=1).astype(np.float32),
        }
        arrays |= {f"{number}/{key}": value for key, value in batch.items()}
    np.savez(path, **arrays)


def prepare(name, atoms=None):
    """Return a step, its batches as `fit` gets them, and their atoms on average."""
    structures, normalization = read()
    if atoms is None:
        batches = list(structures.batches(BATCH_SIZE).take(8))
    else:
        size = int(np.median(structures.num_atoms))
        like = np.flatnonzero(structures.num_atoms == size)
        chosen = structures[np.resize(like, max(atoms // size, 1))]
        batches = list(chosen.batches(len(chosen)))
    # What `fit` compiles, without its callbacks, progress and metrics that start anew:
    # the peers' steps have none of these either.
    model = make_model(name, normalization)
    train = tf.function(model.train_step, jit_compile=True)

    def step(batch):
        if not np.isfinite(train(batch)["loss"]):
            raise FloatingPointError("The loss is not finite.")

    real = sum(np.count_nonzero(x["atomic_numbers"]) for x, _ in batches)
    return step, batches, real / len(batches)


if __name__ == "__main__":
    # In a process of its own the script's folder is on the path, not the package's.
    from serving import serve

    serve(*prepare(sys.argv[1], *map(int, sys.argv[2:])))
