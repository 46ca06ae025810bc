"""Train SchNet of the package kgcnn with the losses of tfpes.

`kgcnn` (https://github.com/aimat-lab/gcnn_keras) is a library of graph networks for
Keras 3. Its SchNet predicts energies, its `EnergyForceModel` differentiates them. Both
are used as they are; the only adapter is a `dataset.map` that renames the inputs.

    pip install kgcnn dm-tree
    python examples/kgcnn_model.py [--epochs 6]
"""

# %% Data and statistics
import argparse
import os

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # docs/speed.md

import keras
import numpy as np
import tensorflow as tf
from kgcnn.literature.Schnet import make_crystal_model
from kgcnn.models.force import EnergyForceModel

import tfpes
from tfpes.evaluation import compositions

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=6)
arguments = parser.parse_args()

keras.utils.set_random_seed(0)
structures = tfpes.data.load("alloys")
train, test = structures.split((0.8, 0.2), seed=0, cover_elements=True)
norm = tfpes.layers.PESNormalization(size_law="auto")
norm.adapt(train.batches(batch_size=64))


# %% The adapter: kgcnn takes a list, in the order of its "disjoint" format
def kgcnn_inputs(inputs, targets):
    """Rename the inputs; targets stay as they are."""
    owner = inputs["structure_index"]
    atom_of_edge, num_structures = inputs["edge_index"][0], len(inputs["cell"])
    owner_of_edge = tf.gather(owner, atom_of_edge)
    return (
        inputs["atomic_numbers"],
        inputs["positions"],
        inputs["edge_index"],
        inputs["edge_shift"],
        inputs["cell"],
        owner,
        owner_of_edge,
        tf.range(tf.size(owner)),
        tf.range(tf.size(owner_of_edge)),
        tf.math.bincount(owner, minlength=num_structures),
        tf.math.bincount(owner_of_edge, minlength=num_structures),
    ), targets


INPUTS = [
    {"name": "atomic_numbers", "shape": (), "dtype": "int64"},
    {"name": "positions", "shape": (3,), "dtype": "float32"},
    {"name": "edge_index", "shape": (None,), "dtype": "int64"},
    {"name": "edge_shift", "shape": (3,), "dtype": "float32"},
    {"name": "cell", "shape": (3, 3), "dtype": "float32"},
    {"name": "owner", "shape": (), "dtype": "int64"},
    {"name": "owner_of_edge", "shape": (), "dtype": "int64"},
    {"name": "atom", "shape": (), "dtype": "int64"},
    {"name": "edge", "shape": (), "dtype": "int64"},
    {"name": "num_atoms", "shape": (), "dtype": "int64"},
    {"name": "num_edges", "shape": (), "dtype": "int64"},
]

# %% kgcnn's model of local energies, and total energies in float64
softplus = {"class_name": "function", "config": "kgcnn>shifted_softplus"}
# The crystal model reads `edge_shift`, which also keeps padding edges off length 0.
network = make_crystal_model(
    inputs=INPUTS,
    input_tensor_type="disjoint",
    output_tensor_type="disjoint",
    input_node_embedding={"input_dim": 119, "output_dim": 64},
    interaction_args={
        "units": 64,
        "use_bias": True,
        "activation": softplus,
        "cfconv_pool": "scatter_sum",
    },
    depth=3,
    gauss_args={"bins": 32, "distance": 5.0, "offset": 0.0, "sigma": 0.2},
    last_mlp={"units": [64, 1], "use_bias": True, "activation": [softplus, "linear"]},
    output_embedding="node",
    use_output_mlp=False,
    verbose=30,
)


class TotalEnergy(keras.layers.Layer):
    """Adds up mean + spread × local over the atoms of each structure."""

    def __init__(self, mean, spread):
        """Keep arrays over elements, indexed by the atomic number."""
        # Total energies need float64 from here on; kgcnn's scaling layer has float32.
        super().__init__(dtype="float64")
        self.mean, self.spread = mean, spread

    def call(self, local, numbers, owner, cell):
        """Return (structures, 1)."""
        atoms = tf.gather(self.mean, numbers) + tf.gather(self.spread, numbers) * local
        return tf.math.unsorted_segment_sum(atoms, owner, tf.shape(cell)[0])


total_energy = TotalEnergy(
    norm.energy_mean.numpy()[:, None], norm.atomic_energy_scale().numpy()[:, None]
)
numbers, _, _, _, cell, owner = network.inputs[:6]
model = EnergyForceModel(
    model_energy=keras.Model(
        network.inputs, total_energy(network.output, numbers, owner, cell)
    ),
    coordinate_input=1,
    output_as_dict=("energy", "forces"),
    output_squeeze_states=True,
    outputs={"energy": {"shape": (1,)}, "forces": {"shape": (None, 3)}},
    name="potential",
)

# %% Losses, compile, fit
dataset = train.batches(batch_size=8, shuffle=True, seed=0).map(kgcnn_inputs)
held_out = test.batches(batch_size=8).map(kgcnn_inputs)
steps = arguments.epochs * len(dataset)
model.compile(
    optimizer=keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.01), clipnorm=1.0
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
print(f"forces [eV/Å]     {force_spread:16.4f} {before['forces_rmse']:10.4f} "
      f"{after['forces_rmse']:10.4f}")  # fmt: skip
if after["energy_loss"] > 0.5 or after["forces_loss"] > 0.5:
    raise SystemExit("The model has not learned.")
