import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.distribute import cluster as module
from tfpes.distribute.means import loss_leaves, mean_over, share_weights
from tfpes.distribute.prepare import prepare
from tfpes.losses import EnergyLoss, ForceLoss

SLURM = {
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_NODELIST": "node[3-4],gpu1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_PROCID": "3",
}


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets variables, and nothing else that tells a cluster."""
    for name in ("TF_CONFIG", *SLURM):
        monkeypatch.delenv(name, raising=False)

    def fill(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return fill


def tf_config(kind, index):
    jobs = {"chief": ["a:1"], "worker": ["b:1", "a:2"], "ps": ["c:1"]}
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


def test_one_process_does_nothing(environment, structures, close):
    environment()
    cluster = tfpes.distribute.Cluster()
    assert (cluster.rank, cluster.size, cluster.is_chief) == (0, 1, True)
    assert cluster.all_reduce([1.5, 2.0]).tolist() == [1.5, 2.0]
    assert cluster.broadcast(3).tolist() == 3
    (part,) = cluster.all_gather([1, 2])
    assert part.tolist() == [1, 2]
    model = keras.Sequential([keras.layers.Dense(1)])
    before = dict(vars(model))
    cluster.prepare(model)
    assert vars(model) == before
    norms = [tfpes.layers.PESNormalization() for _ in range(2)]
    cluster.adapt(norms[0], structures.batches(4, share=cluster))
    norms[1].adapt(structures.batches(4))
    for name, values in norms[0].statistics.items():
        close(values, norms[1].statistics[name])


@pytest.mark.parametrize(
    ("variables", "hosts", "rank"),
    [
        (SLURM, ["gpu1", "node3", "node3", "node4", "node4"], 3),
        ({"TF_CONFIG": tf_config("chief", 0)}, ["a", "b", "a"], 0),
        ({"TF_CONFIG": tf_config("worker", 1)}, ["a", "b", "a"], 2),
    ],
)
def test_environments(environment, variables, hosts, rank):
    environment(**variables)
    addresses, found = module._tasks(module._resolver())
    assert [address.rpartition(":")[0] for address in addresses] == hosts
    assert len(set(addresses)) == len(addresses)
    assert found == rank


def test_a_task_that_does_not_train(environment):
    environment(TF_CONFIG=tf_config("ps", 0))
    with pytest.raises(ValueError, match="Received: the task ps 0"):
        module._tasks(module._resolver())


@pytest.mark.parametrize("visible", [0, 1, 2])
def test_each_process_of_a_machine_takes_one_gpu(monkeypatch, visible):
    chosen = []
    gpus = [f"gpu {number}" for number in range(visible)]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config, "set_visible_devices", lambda gpu, kind: chosen.append(gpu)
    )
    addresses = ["a:1", "b:1", "a:2", "a:3"]
    assert module._choose_gpu(addresses, 2) == bool(visible)
    assert chosen == (["gpu 1"] if visible == 2 else [])
    if visible == 2:
        with pytest.raises(ValueError, match="3 processes on a with 2 GPUs"):
            module._choose_gpu(addresses, 3)


def test_too_late(environment):
    environment(TF_CONFIG=tf_config("worker", 0))
    tf.zeros(1)
    with pytest.raises(RuntimeError, match="before TensorFlow computes anything"):
        tfpes.distribute.Cluster()


def test_a_step_of_its_own():
    class Model(keras.Model):
        def train_step(self, data):
            return {}

    with pytest.raises(TypeError, match="Model with a `train_step` of its own"):
        prepare(Model(), SimpleNamespace(size=2))


NORM = tfpes.layers.PESNormalization(
    energy_mean={"H": -1.0}, energy_variance={"H": 0.5}, force_scale={"H": 1.0}
)


def test_weights_make_means_over_all_labels(close):
    """Losses of two parts, weighted, have the mean of the losses of the whole."""
    rng = np.random.default_rng(0)
    size = np.array([1, 2, 3, 1, 1, 2])
    index = np.repeat(np.arange(6), size)
    counts = tfpes.targets.composition(np.ones(10, int), index, 6)
    energy = np.where([1, 0, 1, 1, 1, 0], rng.normal(size=6), np.nan)
    forces = np.where(rng.random((10, 3)) < 0.4, rng.normal(size=(10, 3)), np.nan)
    y = {
        "energy": tfpes.targets.structure_target(energy, counts),
        "forces": tfpes.targets.atom_target(forces, np.ones(10, int), index),
    }
    pred = {"energy": rng.normal(size=6), "forces": rng.normal(size=(10, 3))}
    weights = {"energy": rng.random(6), "forces": rng.random(10)}
    losses = {
        "energy": EnergyLoss(NORM),
        "forces": ForceLoss(NORM, "l2", dtype="float64"),
    }
    rows = {"energy": [range(4), range(4, 6)], "forces": [range(7), range(7, 10)]}

    def part(tensors, process):
        return {k: tf.gather(v, list(rows[k][process])) for k, v in tensors.items()}

    parts = [part(y, process) for process in range(2)]
    numbers = [
        tf.stack([tf.cast(mean_over(*leaf), "float64") for leaf in leaves.values()])
        for leaves in (loss_leaves(losses, y) for y in parts)
    ]
    for given in (None, weights):
        found = dict.fromkeys(losses, 0.0)
        for process in range(2):
            share = 2 * numbers[process] / (numbers[0] + numbers[1])
            shares = part(given, process) if given else None
            weighted = share_weights(losses, parts[process], shares, share, 2)
            predicted = part(pred, process)
            for key, loss in losses.items():
                value = loss(parts[process][key], predicted[key], weighted[key])
                found[key] += value / 2
        for key, loss in losses.items():
            close(found[key], loss(y[key], pred[key], given and given[key]))


def test_other_losses_are_means_over_rows_or_sums():
    y = tf.zeros((5, 2))
    assert int(mean_over("mse", y)) == 5
    total = keras.losses.MeanSquaredError(reduction="sum")
    weights = share_weights(total, y, None, tf.ones(1), 3)
    assert weights.numpy().tolist() == [3.0] * 5


@pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "none"])
def test_reductions_that_are_no_means_over_labels(reduction):
    with pytest.raises(ValueError, match=f"Received: '{reduction}'"):
        mean_over(EnergyLoss(NORM, reduction=reduction), tf.zeros((2, 120)))


def test_losses_in_lists():
    with pytest.raises(TypeError, match="one loss for each target"):
        loss_leaves(["mse", "mae"], [tf.zeros(2), tf.zeros(2)])
