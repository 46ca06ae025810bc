"""Train a plain Keras functional model with the losses of tfpes.

The model is made of `keras.Input`, `keras.layers` and `keras.ops` alone. It describes
each atom by a radial histogram of its neighbours, gives it an energy, and pushes each
pair of atoms along the line that joins them. (These forces are no derivative of the
energy, which a functional model cannot express; the losses do not mind.)

    python examples/functional_model.py [--epochs 10]
"""

# %% Data and statistics
import argparse
import os

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # docs/speed.md

import keras
import numpy as np
from keras import layers, ops

import tfpes
from tfpes.evaluation import compositions

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

keras.utils.set_random_seed(0)
structures = tfpes.data.load("alloys")
train, test = structures.split((0.8, 0.2), seed=0, cover_elements=True)
dataset = train.batches(batch_size=8, shuffle=True, seed=0)
norm = tfpes.layers.PESNormalization(size_law="auto")
norm.adapt(dataset)


# %% A functional model that knows nothing of tfpes
class SumInto(layers.Layer):
    """Sums rows into those rows of `like` that `index` names."""

    def call(self, values, index, like):
        """Return (rows of `like`, columns of `values`)."""
        return ops.segment_sum(values, index, num_segments=ops.shape(like)[0])


def of_element(array, numbers):
    """Look up float64 numbers that are indexed by the atomic number."""
    values = keras.initializers.Constant(array[:, None])
    table = layers.Embedding(len(array), 1, values, trainable=False, dtype="float64")
    return table(numbers)


def functional_model(cutoff, energy_mean, energy_spread, force_scale):
    """Build a model; energies are given for each element, forces for all."""
    positions = keras.Input(shape=(3,), name="positions")
    numbers = keras.Input(shape=(), name="atomic_numbers", dtype="int32")
    structure = keras.Input(shape=(), name="structure_index", dtype="int32")
    cell = keras.Input(shape=(3, 3), name="cell")
    edges = keras.Input(batch_shape=(2, None), name="edge_index", dtype="int32")
    shift = keras.Input(shape=(3,), name="edge_shift")

    # Geometry: vectors, distances, and a basis that is smooth at the cutoff.
    centre, neighbour = edges[0], edges[1]
    lattice = ops.take(cell, ops.take(structure, centre), axis=0)
    vector = ops.take(positions, neighbour, axis=0)
    vector -= ops.take(positions, centre, axis=0)
    vector += ops.einsum("pi,pij->pj", shift, lattice)
    distance = ops.norm(vector, axis=1, keepdims=True)
    gaussians = ops.exp(-4.0 * (distance - np.linspace(1.5, cutoff, 16)) ** 2)
    inside = ops.cast(distance < cutoff, "float32")
    radial = gaussians * inside * (1 + ops.cos(np.pi / cutoff * distance)) / 2

    # Atoms: the histogram of neighbours, each weighted by features of its element.
    element = layers.Embedding(119, 16)(numbers)
    product = ops.take(layers.Dense(16)(element), neighbour, axis=0)[:, :, None]
    product = ops.reshape(product * radial[:, None, :], (-1, 16 * 16))
    atoms = ops.concatenate([SumInto()(product, centre, positions), element], axis=1)
    atoms = layers.Dense(64, activation="silu")(atoms)
    atoms = layers.Dense(64, activation="silu")(atoms)

    # Energies: a sum over atoms, in float64 as total energies must be.
    local = ops.cast(layers.Dense(1)(atoms), "float64")
    local *= of_element(energy_spread, numbers)
    local += of_element(energy_mean, numbers)
    energy = SumInto(dtype="float64")(local, structure, cell)

    # Forces: pairs push each other; j on i as i on j, so that momentum is conserved.
    pair = layers.Dense(32)(atoms)
    pair = ops.take(pair, centre, axis=0) + ops.take(pair, neighbour, axis=0)
    pair = layers.Dense(32, activation="silu")(ops.concatenate([pair, radial], axis=1))
    push = layers.Dense(16, use_bias=False)(pair)
    push = ops.sum(push * radial, axis=1, keepdims=True) * vector / distance
    forces = force_scale * SumInto()(push, centre, positions)
    inputs = [positions, numbers, structure, cell, edges, shift]
    return keras.Model(
        {each.name: each for each in inputs}, {"energy": energy, "forces": forces}
    )


model = functional_model(
    structures.cutoff,
    norm.energy_mean.numpy(),
    norm.atomic_energy_scale().numpy(),
    float(np.sqrt(np.mean(train.forces**2))),
)

# %% Losses, compile, fit
steps = arguments.epochs * len(dataset)
model.compile(
    optimizer=keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(5e-3, steps, alpha=0.01)
    ),
    loss={
        "energy": tfpes.losses.EnergyLoss(norm),
        "forces": tfpes.losses.ForceLoss(norm),
    },
    metrics={
        "energy": [tfpes.metrics.EnergyRMSE()],
        "forces": [tfpes.metrics.ForceRMSE()],
    },
    jit_compile=True,
)
held_out = test.batches(batch_size=8)
before = model.evaluate(held_out, verbose=0, return_dict=True)
model.fit(dataset, epochs=arguments.epochs, shuffle=False, verbose=2)
after = model.evaluate(held_out, verbose=0, return_dict=True)

# %% Compare with the spread of the labels
residual = test.energy - norm.energy_baseline(compositions(test)).numpy()
spread = np.sqrt(np.mean((residual / test.num_atoms) ** 2))
force_spread = np.sqrt(np.mean(test.forces**2))
print("\nheld-out RMSE     spread of labels     before      after")
print(f"energy [eV/atom]  {spread:16.4f} {before['energy_rmse']:10.4f} "
      f"{after['energy_rmse']:10.4f}")  # fmt: skip
print(f"forces [eV/Å]     {force_spread:16.4f} "
      f"{before['forces_rmse']:10.4f} {after['forces_rmse']:10.4f}")  # fmt: skip
if after["energy_loss"] > 0.5 or after["forces_loss"] > 0.5:
    raise SystemExit("The model has not learned.")
