"""Values of the losses of other packages beside ours, as far as they are installed.

One batch of real labels with made-up errors goes through the loss of each package and
through the losses of tfpes that docs/peers.md says are equal to it. Packages that are
missing are said to be so.

    python benchmarks/adoption.py
"""

try:  # sets Keras 2 for its process: before anything else
    import tensorpotential
except ImportError:
    tensorpotential = None

import importlib.metadata
import importlib.util

import numpy as np

import tfpes
from tfpes.evaluation import compositions
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.targets import atom_target, structure_target

structures = tfpes.data.load("alloys")[:64]
counts, n = compositions(structures), structures.num_atoms
owner, numbers = structures.structure_index, structures.atomic_numbers
rng = np.random.default_rng(0)
E, F = structures.energy, structures.forces.astype(float)
dE, dF = n * rng.normal(scale=0.02, size=len(n)), rng.normal(scale=0.05, size=F.shape)
each = dict.fromkeys([tfpes.elements.SYMBOLS[z] for z in structures.elements], 1.0)


def in_units(sigma, kappa=0.0):
    """Return a layer of scales √(n σ² + N² κ²) eV and 1 eV/Å."""
    return tfpes.layers.PESNormalization(
        energy_mean=dict.fromkeys(each, 0.0),
        energy_variance=dict.fromkeys(each, sigma**2),
        collective_variance=kappa**2,
        force_scale=each,
    )


def energy(norm, **options):
    """Return our energy loss of this batch."""
    return float(EnergyLoss(norm, **options)(structure_target(E, counts), E + dE))


def forces(norm, **options):
    """Return our force loss of this batch."""
    target = atom_target(F, numbers, owner)
    return float(ForceLoss(norm, dtype="float64", **options)(target, F + dF))


def line(name, theirs, ours):
    """Print both, and how far they are from each other."""
    theirs = float(np.asarray(theirs))
    print(f"{name:34s}{theirs:14.8g}{ours:14.8g}{ours / theirs - 1:11.1e}")


def missing(name):
    """Say that a package is not here, or which version of it is."""
    here = importlib.util.find_spec(name.replace("-kit", "")) is not None
    version = importlib.metadata.version(name) if here else "not installed"
    print(f"{name} {version}")
    return not here


per_atom, root_n = in_units(1e-6, 1.0), in_units(1.0)
print(f"{'loss':34s}{'its own':>14s}{'ours':>14s}{'difference':>11s}")

if not missing("tensorpotential"):
    import tensorflow as tf
    from tensorpotential import constants as names
    from tensorpotential import loss as grace

    batch = {
        names.DATA_REFERENCE_ENERGY: tf.constant(E[:, None]),
        names.DATA_ENERGY_WEIGHTS: tf.ones((len(n), 1), tf.float64),
        names.DATA_REFERENCE_FORCES: tf.constant(F),
        names.DATA_FORCE_WEIGHTS: tf.ones((len(F), 1), tf.float64),
        names.ATOMS_TO_STRUCTURE_MAP: tf.constant(owner),
        names.N_STRUCTURES_BATCH_TOTAL: tf.constant(len(n)),
    }
    found = {
        names.PREDICT_TOTAL_ENERGY: tf.constant((E + dE)[:, None]),
        names.PREDICT_FORCES: tf.constant(F + dF),
    }
    kink = {"metric": "huber", "delta": 0.01}
    for component, ours in (
        (grace.WeightedSSEEnergyPerAtomLoss(1.0), energy(per_atom)),
        (grace.WeightedHuberEnergyPerAtomLoss(1.0, 0.01), energy(per_atom, **kink)),
        (grace.WeightedSSEForceLoss(1.0), forces(root_n)),
        (grace.WeightedHuberForceLoss(1.0, 0.01), forces(root_n, **kink)),
    ):
        component.build(tf.float64)
        line("  " + type(component).__name__, component(batch, found), ours)

if not missing("deepmd-kit"):
    from deepmd.dpmodel.loss.ener import EnergyLoss as DeepmdLoss

    # A padded batch, (B, N, ...), with a mask: structures of several sizes.
    width = int(n.max())
    mask = np.arange(width) < n[:, None]

    def padded(values):
        """Return (B, N, 3)."""
        dense = np.zeros((*mask.shape, 3))
        dense[mask] = values
        return dense

    labels = {
        **{"energy": E[:, None], "force": padded(F)},
        **{"find_energy": 1.0, "find_force": 1.0},
    }
    found = {"energy": (E + dE)[:, None], "force": padded(F + dF), "mask": mask}
    for name, options, ours in (
        ("energy, 1/N", {"limit_pref_e": 1, "limit_pref_f": 0}, energy(root_n)),
        (
            "energy, intensive",
            {"limit_pref_e": 1, "limit_pref_f": 0, "intensive_ener_virial": True},
            energy(per_atom),
        ),
        ("forces", {"limit_pref_e": 0, "limit_pref_f": 1}, forces(root_n)),
    ):
        starts = {k.replace("limit", "start"): v for k, v in options.items()}
        loss = DeepmdLoss(starter_learning_rate=1.0, **starts | options)
        line("  " + name, loss(1.0, width, found, labels)[0], ours)

if not missing("kgcnn"):
    from kgcnn.losses.losses import MeanAbsoluteError

    value = MeanAbsoluteError()(E[:, None], (E + dE)[:, None])
    raw = EnergyLoss(root_n, metric="mae")
    ours = float(raw(structure_target(E, counts), E + dE, np.sqrt(n)))
    line("  MeanAbsoluteError", value, ours)
