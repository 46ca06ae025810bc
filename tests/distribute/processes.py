"""What one of several processes does, or one alone.

As a script, with the globals of `test_processes.together`, it does a task of them.
"""

import os
import signal

import keras
import numpy as np
import tensorflow as tf

import tfpes
import tfpes.training.fit
import tfpes.training.run
from tfpes.files import write_json
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.targets import atom_target, composition, structure_target

COUNT = 16
rng = np.random.default_rng(0)
SIZES = rng.permutation(np.repeat([2, 3, 4, 31], COUNT // 4))
OWNER = np.repeat(np.arange(COUNT), SIZES)
POSITIONS = rng.normal(size=(len(OWNER), 3)).astype("float32")
NUMBERS = rng.choice([1, 8], len(OWNER)).astype("int32")
ENERGY = rng.normal(size=COUNT) - 10.0 * SIZES
FORCES = rng.normal(size=(len(OWNER), 3)).astype("float32")
HALVES = np.arange(8), np.arange(8, 16)
BY_SIZE = np.split(np.argsort(SIZES, kind="stable"), 2)
# Labels of structures 0 to 7 on the first process; the others on the second.
CASES = {
    "balanced": (HALVES, {}),
    "small against large": (BY_SIZE, {}),
    "2 of 8 energies": (
        HALVES,
        {"energy": np.where(np.isin(np.arange(COUNT), range(2, 8)), np.nan, ENERGY)},
    ),
    "no energy": (HALVES, {"energy": np.where(np.arange(COUNT) < 8, ENERGY, np.nan)}),
    "10 % of forces": (
        HALVES,
        {"forces": np.where(rng.random(FORCES.shape) < 0.1, FORCES, np.float32("nan"))},
    ),
}


@keras.saving.register_keras_serializable()
class Own(keras.Model):
    """A potential of somebody else, in float64, without `training` in its call."""

    def __init__(self):
        super().__init__(dtype="float64")
        self.hidden = keras.layers.Dense(5, "tanh", dtype="float64")
        self.last = keras.layers.Dense(1, dtype="float64")

    def call(self, inputs):
        positions = tf.cast(inputs["positions"], tf.float64)
        count = inputs["cell"].shape[0] or tf.shape(inputs["cell"])[0]
        with tf.GradientTape() as tape:
            tape.watch(positions)
            element = tf.one_hot(inputs["atomic_numbers"], 10, dtype=tf.float64)
            features = tf.concat([positions, positions**2, element], axis=1)
            local = self.last(self.hidden(features))[:, 0]
            index = inputs["structure_index"]
            energy = tf.math.unsorted_segment_sum(local, index, count)
        return {"energy": energy, "forces": -tape.gradient(energy, positions)}


def batch(picked, energy=ENERGY, forces=FORCES):
    """Return one batch of some structures, of no shape that a graph knows."""
    atoms = np.isin(OWNER, picked)
    index = np.searchsorted(picked, OWNER[atoms]).astype("int32")
    counts = composition(NUMBERS[atoms], index, len(picked))
    inputs = {
        "positions": tf.constant(POSITIONS[atoms]),
        "atomic_numbers": tf.constant(NUMBERS[atoms]),
        "structure_index": tf.constant(index),
        "cell": tf.zeros((len(picked), 3, 3)),
    }
    targets = {
        "energy": structure_target(energy[picked], counts),
        "forces": atom_target(forces[atoms], NUMBERS[atoms], index),
    }
    whole = inputs, targets
    spec = tf.nest.map_structure(
        lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), whole
    )
    data = tf.data.Dataset.from_generator(lambda: [whole], output_signature=spec)
    return data.apply(tf.data.experimental.assert_cardinality(1))


def find(cluster, folder):
    """Return what this process finds, by name."""
    found = {}

    def mine(first, second):
        parts = [np.sort(first), np.sort(second)]
        if cluster.size == 2:
            return parts[cluster.rank]
        return np.sort(np.concatenate(parts))

    # One structure here, all others there.
    norm = tfpes.layers.PESNormalization(size_law="auto")
    cluster.adapt(norm, batch(mine([3], np.delete(np.arange(COUNT), 3))))
    for name, values in norm.statistics.items():
        found[f"statistics/{name}"] = values
    found["report"] = np.array(str(norm.report))

    # Weights differ between processes, until the first step.
    keras.utils.set_random_seed(cluster.rank)
    model = Own()
    losses = {"energy": EnergyLoss(norm), "forces": ForceLoss(norm, dtype="float64")}
    metrics = {"energy": [tfpes.metrics.EnergyRMSE()]}
    # The momentum after one step is minus the gradient.
    model.compile(
        keras.optimizers.SGD(1.0, momentum=0.5),
        losses,
        loss_weights={"energy": 1.0, "forces": 0.25},
        metrics=metrics,
        jit_compile=False,
    )
    cluster.prepare(model)
    start = None
    for name, (parts, labels) in CASES.items():
        momenta = model.optimizer.variables[2:]
        for variable in momenta:
            variable.assign(tf.zeros_like(variable))
        data = batch(mine(*parts), **labels)
        history = model.fit(data, verbose=0, shuffle=False).history
        momenta = model.optimizer.variables[2:]
        for number, variable in enumerate(momenta):
            found[f"gradient/{name}/{number}"] = variable.numpy()
        for key, value in history.items():
            found[f"history/{name}/{key}"] = np.array(value)
        variables = model.trainable_variables
        if start is None:
            pairs = zip(variables, momenta, strict=True)
            start = [variable.numpy() - step.numpy() for variable, step in pairs]
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)

    # Shared batches, several steps in an execution, a short last batch.
    structures = tfpes.data.read(f"{folder}/train.xyz", 4.0, verbose=False)
    # Of one shape: Keras weights the losses of steps by it.
    structures = structures[structures.num_atoms == 4]
    train = structures.batches(8, shuffle=True, seed=1, share=cluster)
    valid = structures[:9].batches(8, share=cluster)
    cluster.adapt(norm, train)
    model.compile(
        keras.optimizers.Adam(0.01, global_clipnorm=0.1, use_ema=True),
        {"energy": EnergyLoss(norm), "forces": ForceLoss(norm, "l2", "structures")},
        metrics=metrics,
        weighted_metrics={"forces": [tfpes.metrics.ForceRMSE()]},
        jit_compile=False,
        steps_per_execution=4,
    )
    history = model.fit(
        train, shuffle=False, verbose=0, validation_data=valid, epochs=2
    ).history
    for key, value in history.items():
        found[f"history/fit/{key}"] = np.array(value)
    # Of the averaged weights, which Keras takes at the end of `fit`.
    again = model.evaluate(valid, verbose=0, return_dict=True)
    found["evaluate"] = np.array(again["loss"])

    # Compiled by XLA, around the collective operations.
    model.compile("adam", losses, jit_compile=True)
    history = model.fit(train.take(1), shuffle=False, verbose=0).history
    found["history/compiled fit/loss"] = np.array(history["loss"])
    return found, model, valid


def train(cluster, folder, name=None):
    """Do as `tfpes train` does."""
    tfpes.training.run.Cluster = lambda: cluster
    compile_ = tfpes.models.Potential.compile
    # XLA, pictures and the export would take most of the time.
    tfpes.models.Potential.compile = lambda self, **options: compile_(
        self, **{**options, "jit_compile": False}
    )
    tfpes.training.run.write_results = lambda run, checkpoint, finished: write_json(
        run.folder / "metrics.json", {"history": checkpoint.history}
    )
    files = {"data": (f"{folder}/train.xyz",), "valid": (f"{folder}/valid.xyz",)}
    options = tfpes.training.Options(
        **files,
        test=files["valid"],
        cutoff=4.0,
        epochs=6,
        channels=4,
        blocks=1,
        clip=0.5,
        output=f"{folder}/{name or cluster.size}",
    )
    tfpes.training.train(options)


def refusals(cluster, model, data):
    """Return what is said to those who do wrong."""
    other = Own()
    other.compile("sgd", model.loss)

    def attempts():
        yield lambda: tfpes.distribute.Cluster()
        yield lambda: other.fit(data.prefetch(1), verbose=0, shuffle=False)
        yield lambda: model.loss["energy"].normalization.adapt(data, verbose=0)
        unequal = data.take(1 + cluster.rank)
        yield lambda: model.fit(unequal, verbose=0, shuffle=False)
        evaluate = lambda: model.evaluate(data, verbose=0)  # noqa: E731
        yield evaluate if cluster.is_chief else lambda: cluster.broadcast(1.0)
        cluster.patience = 5.0
        if cluster.is_chief:  # the other one ends
            yield evaluate

    errors = []
    for attempt in attempts():
        try:
            attempt()
        except (RuntimeError, tf.errors.OpError) as error:
            errors.append(str(error))
    return errors


def pair(folder):
    """Do all that two processes are asked for."""
    cluster = tfpes.distribute.Cluster()
    found, model, data = find(cluster, folder)
    # Lengths are those of each process.
    found["gathered"] = np.concatenate(cluster.all_gather(np.arange(cluster.rank + 2)))
    found["broadcast"] = cluster.broadcast(np.array([1.5, cluster.rank]))
    train(cluster, folder)
    found["errors"] = np.array(refusals(cluster, model, data))
    np.savez(f"{folder}/{cluster.rank}.npz", **found)


def only_train(folder):
    """Train alone, or with others."""
    train(tfpes.distribute.Cluster(), folder)


def killed(folder):
    """Train; the second process is killed after three epochs."""
    cluster = tfpes.distribute.Cluster()

    class Lines(tfpes.training.fit.EpochLines):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3 and cluster.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            super().on_epoch_begin(epoch, logs)

    tfpes.training.fit.EpochLines = Lines
    train(cluster, folder, "killed")


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)  # noqa: F821
    globals()[TASK](FOLDER)  # noqa: F821
