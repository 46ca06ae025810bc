"""One compiled training step for all losses, ratios and seeds on a data set.

XLA compiles for many seconds, so everything that differs between runs is an argument
of the step or a variable that is set anew: the scale of the energies, that of the
forces, the ratio, the weights of the network and the state of the optimizer.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from tfpes.evaluation.comparison import compare_batches
from tfpes.models import Potential, SchNet
from tfpes.targets import atom_target, split_atom_target, split_structure_target

GROUPINGS = 4
"""Ways in which structures are grouped into batches, used in turn."""


class Trainer:
    """Trains a small SchNet again and again.

    Args:
        train: structures.
        others: name to structures, to evaluate on.
        normalization: of the model; its statistics may be assigned between runs.
        settings: ``channels, blocks, basis_size, batch_size``.
    """

    def __init__(self, train, others, normalization, settings):
        """Make batches and a model."""
        self.settings, self.cutoff = settings, train.cutoff
        self.normalization = normalization
        self.model = Potential(self._network(), normalization)
        self.model.build()
        self.optimizer = keras.optimizers.Adam()
        self.optimizer.build(self.model.trainable_variables)
        size = settings["batch_size"]
        shuffled = train.batches(size, shuffle=True, seed=0)
        self.batches = _same_shape(
            {f"grouping {i}": list(shuffled) for i in range(GROUPINGS)}
        ) | _same_shape({k: list(s.batches(size)) for k, s in others.items()})
        self.steps_per_epoch = len(self.batches["grouping 0"])
        self._initial = {}
        self._step = tf.function(self._step_eagerly, jit_compile=True)
        self._predict = tf.function(self.model, jit_compile=True)
        self._slope = tf.function(self._slope_eagerly, jit_compile=True)

    def _network(self):
        names = ("channels", "blocks", "basis_size")
        return SchNet(self.cutoff, **{name: self.settings[name] for name in names})

    def reset(self, seed):
        """Set the network to the initial weights of a seed."""
        if seed not in self._initial:
            keras.utils.set_random_seed(seed)
            fresh = self._network()
            fresh.build()
            self._initial[seed] = fresh.get_weights()
        self.model.network.set_weights(self._initial[seed])
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))

    def terms(self, inputs, targets, loss):
        """Return the energy term and the force term of a batch."""
        outputs = self.model(inputs)
        energy, counts = split_structure_target(targets["energy"])
        size = tf.reduce_sum(counts, axis=1)
        scale = loss["constant"] + tf.linalg.matvec(counts, loss["variance"])
        scale += size**2 * loss["collective"]
        there = tf.math.is_finite(energy)
        error = tf.where(there, energy - outputs["energy"], 0.0) ** 2
        term = tf.reduce_sum(error / tf.where(there, scale, 1.0))
        forces, numbers, _ = split_atom_target(targets["forces"])
        eta = tf.gather(loss["force_scale"], numbers)[:, None]
        present = tf.math.is_finite(forces)
        pull = tf.where(present, (forces - outputs["forces"]) / eta, 0.0) ** 2
        return (
            term / tf.reduce_sum(tf.cast(there, term.dtype)),
            tf.cast(tf.reduce_sum(pull), term.dtype)
            / tf.reduce_sum(tf.cast(present, term.dtype)),
        )

    def _step_eagerly(self, inputs, targets, loss, clip):
        with tf.GradientTape() as tape:
            terms = tf.stack(self.terms(inputs, targets, loss))
            total = tf.reduce_sum(loss["weights"] * terms)
        gradients = tape.gradient(total, self.model.trainable_variables)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        norm = tf.linalg.global_norm(gradients)
        factor = tf.minimum(1.0, clip / tf.maximum(norm, 1e-30))
        self.optimizer.apply([factor * g for g in gradients])
        return tf.concat([total[None], terms], 0)

    def step(self, inputs, targets, numbers, clip=math.inf):
        """Change the weights once; return the loss and its two terms, (3,)."""
        return self._step(inputs, targets, numbers, tf.constant(clip, tf.float32))

    def train(self, loss, ratio, seed, epochs, learning_rate, clip=math.inf):
        """Train from fresh weights with a cosine learning rate.

        Returns:
            (epochs, 3) mean loss, energy term and force term of each epoch.
        """
        self.reset(seed)
        numbers = {k: tf.constant(v) for k, v in loss.numbers(ratio).items()}
        rng, history = np.random.default_rng(seed), []
        steps = epochs * self.steps_per_epoch
        for epoch in range(epochs):
            batches = self.batches[f"grouping {epoch % GROUPINGS}"]
            total = []
            for i, b in enumerate(rng.permutation(len(batches))):
                done = (epoch * self.steps_per_epoch + i) / steps
                rate = 0.5 * learning_rate * (1 + math.cos(math.pi * done))
                self.optimizer.learning_rate.assign(rate)
                total.append(self.step(*batches[b], numbers, clip))
            history.append(np.mean([x.numpy() for x in total], axis=0))
        return np.array(history)

    def compare(self, part):
        """Return labels and predictions of a part."""
        return compare_batches(self._predict, self.batches[part])

    def _slope_eagerly(self, inputs, pick):
        with tf.GradientTape() as tape:
            energy = tf.reduce_sum(pick * self.model(inputs)["energy"])
        gradients = tape.gradient(energy, self.model.trainable_variables)
        flat = [tf.reshape(tf.convert_to_tensor(g), [-1]) for g in gradients]
        return tf.concat(flat, 0)

    def slopes(self, part):
        """Return dE_s/dθ for each structure of :meth:`compare`, (S, parameters)."""
        rows = []
        for inputs, targets in self.batches[part]:
            real = np.isfinite(targets["energy"].numpy()[:, 0])
            for slot in np.flatnonzero(real):
                pick = tf.one_hot(slot, len(real), dtype=tf.float64)
                rows.append(self._slope(inputs, pick).numpy())
        return np.array(rows)


def _same_shape(sets):
    """Pad all batches to one shape; padding edges join the last atom to its image."""
    everything = [inputs for batches in sets.values() for inputs, _ in batches]
    atoms = max(inputs["positions"].shape[0] for inputs in everything)
    edges = max(inputs["edge_shift"].shape[0] for inputs in everything)

    def pad(values, length, fill=0, axis=0):
        values = np.asarray(values)
        width = [(0, 0)] * values.ndim
        width[axis] = (0, length - values.shape[axis])
        return tf.constant(np.pad(values, width, constant_values=fill))

    def widen(inputs, targets):
        # The last structure of a batch is padding, as is the last atom.
        last = inputs["cell"].shape[0] - 1
        numbers = pad(inputs["atomic_numbers"], atoms)
        index = pad(inputs["structure_index"], atoms, last)
        forces = pad(targets["forces"][:, :3], atoms, np.nan)
        return {
            "positions": pad(inputs["positions"], atoms),
            "atomic_numbers": numbers,
            "structure_index": index,
            "cell": inputs["cell"],
            "edge_index": pad(inputs["edge_index"], edges, atoms - 1, axis=1),
            "edge_shift": pad(inputs["edge_shift"], edges, 1.0),
        }, {
            "energy": targets["energy"],
            "forces": atom_target(forces, numbers, index),
        }

    return {name: [widen(*b) for b in batches] for name, batches in sets.items()}
