"""Train GRACE of the package tensorpotential with the losses of tfpes.

`tensorpotential` (https://github.com/ICAMS/grace-tensorpotential) makes its own
batches, padded with a real element and labels of weight 0, and its own training step.
The adapter is `targets_of`, which packs such a batch, and `Component`, a component of
GRACE's loss that calls a loss of tfpes.

    pip install tensorpotential tfpes       # in an environment of its own
    python examples/grace_model.py data.xyz [--loss tfpes grace] [--ratio 1]
"""

# %% GRACE comes first: it sets Keras 2 and NumPy behaviour of tensors for its process,
# where Keras's own `fit` of other models should not be called.
import tensorpotential  # noqa: F401, I001
from tensorpotential import constants as names
from tensorpotential.data.databuilder import GeometricalDataBuilder
from tensorpotential.data.databuilder import ReferenceEnergyForcesStressesDataBuilder
from tensorpotential.data.databuilder import construct_batches
from tensorpotential.loss import LossComponent, LossFunction
from tensorpotential.loss import WeightedHuberEnergyPerAtomLoss, WeightedHuberForceLoss
from tensorpotential.metrics import ComputeMetrics
from tensorpotential.potentials.presets import GRACE_1LAYER_v1_24
from tensorpotential.tensorpot import TensorPotential

import argparse

import ase.io
import numpy as np
import tensorflow as tf

import tfpes
from tfpes.targets import pack

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", help="file that ASE reads")
parser.add_argument("--loss", nargs="+", default=["tfpes", "grace"])
parser.add_argument("--ratio", type=float, default=1.0, help="energy : forces, tfpes")
parser.add_argument("--structures", type=int, default=400, help="a fifth of it to test")
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--seeds", type=int, default=3)
arguments = parser.parse_args()

# %% Batches of GRACE
frames = ase.io.read(arguments.data, f":{arguments.structures}")
symbols = sorted({symbol for atoms in frames for symbol in atoms.symbols})
index = {symbol: i for i, symbol in enumerate(symbols)}
numbers = np.array([tfpes.elements.SYMBOLS.index(symbol) for symbol in symbols])


def batches(frames):
    """Return GRACE's batches of 8 structures, padded to a few shapes."""
    builders = [
        GeometricalDataBuilder(elements_map=index, cutoff=5.0),
        ReferenceEnergyForcesStressesDataBuilder(
            normalize_weights=False, normalize_force_per_structure=False
        ),  # as GRACE's command has it
    ]
    return list(
        construct_batches(
            frames, builders, batch_size=8, max_n_buckets=4, verbose=False
        )
    )


order = np.random.default_rng(0).permutation(len(frames))
held_out = len(frames) // 5
test, train = (
    batches([frames[i] for i in part]) for part in np.split(order, [held_out])
)


# %% The adapter
def targets_of(batch):
    """Pack the labels of a batch; those of weight 0 are padding, or missing."""
    return pack(
        energy=batch[names.DATA_REFERENCE_ENERGY],
        forces=batch[names.DATA_REFERENCE_FORCES],
        atomic_numbers=tf.gather(numbers, batch[names.ATOMIC_MU_I]),
        structure_index=batch[names.ATOMS_TO_STRUCTURE_MAP],
        present={
            "energy": batch[names.DATA_ENERGY_WEIGHTS][:, 0],
            "forces": batch[names.DATA_FORCE_WEIGHTS][:, 0],
        },
    )


class Component(LossComponent):
    """A loss of tfpes as a component of GRACE's loss."""

    input_tensor_spec = {  # noqa: RUF012
        **WeightedHuberEnergyPerAtomLoss.input_tensor_spec,
        **WeightedHuberForceLoss.input_tensor_spec,
        names.ATOMIC_MU_I: {"shape": [None], "dtype": "int"},
    }

    def __init__(self, loss, key, prediction, weight):
        """Apply `loss` to the targets `key` and GRACE's `prediction`."""
        super().__init__(weight, name=key)
        self.loss, self.key, self.prediction = loss, key, prediction

    def compute_loss_component(self, input_data, predictions, **_):
        """Return the value of the loss."""
        target = targets_of(input_data)[self.key]
        return tf.cast(self.loss(target, predictions[self.prediction]), tf.float64)


norm = tfpes.layers.PESNormalization(size_law="auto")
norm.adapt([targets_of(batch) for batch in train])
print(norm.report)


def components(name):
    """Return the losses of tfpes, or those that GRACE's wizard proposes."""
    if name == "grace":
        return {
            "energy": WeightedHuberEnergyPerAtomLoss(16.0, delta=0.01),
            "forces": WeightedHuberForceLoss(32.0, delta=0.01),
        }
    energy = tfpes.losses.EnergyLoss(norm, metric="huber")
    forces = tfpes.losses.ForceLoss(norm, metric="huber", dtype="float64")
    return {
        "energy": Component(
            energy, "energy", names.PREDICT_TOTAL_ENERGY, arguments.ratio
        ),
        "forces": Component(forces, "forces", names.PREDICT_FORCES, 1.0),
    }


# %% Training: baseline and scale of GRACE's output are those of the layer, for both
def train_model(name, seed):
    """Return the trained model."""
    tf.random.set_seed(seed)
    preset = GRACE_1LAYER_v1_24(
        index,
        rcut=5.0,
        avg_n_neigh=30.0,
        lmax=2,
        n_rad_max=8,
        n_mlp_dens=4,
        max_order=2,
        embedding_size=16,
        constant_out_scale=float(norm.atomic_energy_scale().numpy()[numbers].mean()),
        atomic_shift_map=dict(enumerate(norm.energy_mean.numpy()[numbers].tolist())),
    )
    rate = tf.keras.optimizers.schedules.CosineDecay(0.01, arguments.steps, 0.01)
    model = TensorPotential(
        preset.get_instructions(),
        {"optimizer": "Adam", "opt_params": {"learning_rate": rate, "amsgrad": True}},
        global_batch_size=8,
        loss_function=LossFunction(components(name)),
        compute_metrics=ComputeMetrics([]),
        jit_compile=False,
        seed=seed,
    )
    signature = model.get_model_grad_signatures()
    data = [tensors(batch, signature) for batch in train]
    choices = np.random.default_rng(seed).integers(len(data), size=arguments.steps)
    for step, choice in enumerate(choices):
        found = model.distributed_train_step(data[choice])
        if step % 100 == 0:
            print(name, seed, step, f"loss {float(found['total_loss/train']):.4g}")
    return model


def tensors(batch, signature):
    """Return what the model asks for."""
    return {key: tf.constant(batch[key], spec.dtype) for key, spec in signature.items()}


# %% Errors on structures that were held out
def errors(model):
    """Return energy errors per atom, sizes, force errors and elements."""
    parts = []
    for batch in test:
        batch = tensors(batch, model.get_model_grad_signatures())
        found = model.predict(batch)
        size = tf.math.bincount(batch[names.ATOMS_TO_STRUCTURE_MAP]).numpy()
        real = batch[names.DATA_ENERGY_WEIGHTS].numpy()[:, 0] > 0
        atoms = batch[names.DATA_FORCE_WEIGHTS].numpy()[:, 0] > 0
        energy = found[names.PREDICT_TOTAL_ENERGY] - batch[names.DATA_REFERENCE_ENERGY]
        forces = found[names.PREDICT_FORCES] - batch[names.DATA_REFERENCE_FORCES]
        parts.append(
            (
                energy.numpy()[real, 0] / size[: len(real)][real],
                size[: len(real)][real],
                forces.numpy()[atoms],
                batch[names.ATOMIC_MU_I].numpy()[atoms],
            )
        )
    return map(np.concatenate, zip(*parts, strict=True))


def rms(values):
    """Return the root mean square."""
    return np.sqrt(np.mean(values**2))


BINS = {"2-8": (1, 8), "9-16": (8, 16), "17-": (16, np.inf)}
rows = {}
for name in arguments.loss:
    for seed in range(arguments.seeds):
        energy, size, forces, element = errors(train_model(name, seed))
        row = [1e3 * rms(energy)]
        row += [
            1e3 * rms(energy[(size > low) & (size <= high)])
            for low, high in BINS.values()
        ]
        row += [rms(forces)]
        row += [rms(forces[element == i]) for i in range(len(symbols))]
        rows[name, seed] = row

print(f"\n{'':12s}{'energy, meV/atom':>32s}{'forces, eV/Å':>40s}")
heads = ["all", *BINS, "all", *symbols]
print(f"{'loss':8s}seed" + "".join(f"{head:>8s}" for head in heads))
for (name, seed), row in rows.items():
    columns = [f"{value:8.1f}" for value in row[: len(BINS) + 1]]
    columns += [f"{value:8.3f}" for value in row[len(BINS) + 1 :]]
    print(f"{name:8s}{seed:4d}" + "".join(columns))
