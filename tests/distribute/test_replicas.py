"""Losses in a training loop of somebody else, under a strategy of TensorFlow."""

import json

import pytest

# Devices are divided before TensorFlow starts: in a process of its own.
TWO = """
import json
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
halves = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, halves)
import keras
import tfpes
from tfpes.targets import pack, structure_target
"""
SCRIPT = """
rng = np.random.default_rng(0)
energy = rng.normal(size=8)
energy[[4, 6, 7]] = np.nan
size = np.arange(1.0, 9)
counts = size[:, None] * (np.arange(119) == 1)
data = structure_target(energy, counts), size, rng.random(8)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    slope = tf.Variable(0.3, dtype=tf.float64)
    norm = tfpes.layers.PESNormalization(
        energy_mean={"H": -1.0}, energy_variance={"H": 0.5}
    )

def gradient(target, size, weights):
    with tf.GradientTape() as tape:
        value = loss(target, slope * size, weights)
    return tape.gradient(value, slope)

def step(*data):
    replicas = tf.distribute.get_replica_context()
    return replicas.all_reduce("SUM", gradient(*data))

for reduction in ("sum_over_batch_size", "mean_with_sample_weight", "sum"):
    loss = tfpes.losses.EnergyLoss(norm, reduction=reduction)
    parts = [
        strategy.experimental_distribute_values_from_function(
            lambda context: tf.split(part, 2)[context.replica_id_in_sync_group]
        )
        for part in data
    ]
    run = tf.function(lambda *data: strategy.run(step, args=data))
    found = strategy.experimental_local_results(run(*parts))
    print(json.dumps([float(gradient(*data)), *map(float, found)]))
"""


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_batch(run_python):
    """Of labels on one replica and all but one on the other, with any reduction."""
    for line in run_python(TWO + SCRIPT).splitlines():
        expected, *found = json.loads(line)
        assert found == pytest.approx([expected] * 2, rel=1e-12)


DENSE = """
rng = np.random.default_rng(0)
numbers = rng.integers(1, 9, (8, 5))
numbers[1, 3:] = numbers[5:, 2:] = 0  # replicas do not have equally many atoms
x = rng.normal(size=(8, 5, 3)).astype("float32")
y = pack(energy=rng.normal(size=8), forces=x**2, atomic_numbers=numbers)
y = {key: value.numpy() for key, value in y.items()}
for strategy in (
    tf.distribute.get_strategy(),
    tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        norm = tfpes.layers.PESNormalization()
        norm.adapt(y)
        inputs = keras.Input((5, 3))
        energy = keras.layers.Dense(1)(keras.layers.Flatten()(inputs))
        forces = keras.layers.Dense(3)(inputs)
        model = keras.Model(inputs, {"energy": energy, "forces": forces})
        losses = tfpes.losses.EnergyLoss(norm), tfpes.losses.ForceLoss(norm)
        loss = {"energy": losses[0], "forces": losses[1]}
        model.compile(keras.optimizers.SGD(0.1), loss=loss)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    print(json.dumps([w.numpy().ravel().tolist() for w in model.trainable_weights]))
"""


@pytest.mark.slow
def test_dense_rows_are_divided_among_replicas(run_python):
    """`fit` on (B, N, 3) arrays takes the same steps on two replicas as on one."""
    one, two = map(json.loads, run_python(TWO + DENSE).splitlines())
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
