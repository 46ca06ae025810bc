"""Steps of kgcnn's SchNet: python kgcnn_steps.py SchNet BATCHES.npz."""

import sys

import keras
import numpy as np
import tensorflow as tf
from kgcnn.literature.Schnet import make_crystal_model
from kgcnn.models.force import EnergyForceModel
from serving import read_batches, serve

tf.config.threading.set_intra_op_parallelism_threads(2)


def convert(b):
    count = len(b["cell"])
    edge_structure = b["structure_index"][b["edge_index"][0]]
    atoms = np.bincount(b["structure_index"], minlength=count)
    edges = np.bincount(edge_structure, minlength=count)
    first = np.concatenate([[0], np.cumsum(atoms)[:-1]])

    def pad(values, structure, sizes):
        out = np.zeros((count, sizes.max(), *values.shape[1:]), values.dtype)
        for s in range(count):
            out[s, : sizes[s]] = values[structure == s]
        return out

    local = (b["edge_index"] - first[edge_structure]).T.astype("int64")
    s = b["structure_index"]
    return tuple(
        tf.constant(x)
        for x in (
            pad(b["atomic_numbers"].astype("int64"), s, atoms),
            pad(b["positions"], s, atoms),
            pad(local, edge_structure, edges),
            pad(b["edge_shift"].astype("int64"), edge_structure, edges),
            b["cell"],
            atoms.astype("int64"),
            edges.astype("int64"),
        )
    ), tuple(
        tf.constant(x.astype("float32"))
        for x in (
            b["energy"] - b["baseline"],
            b["energy_scale"],
            pad(b["forces"], s, atoms),
            pad(b["force_scale"], s, atoms),
        )
    )


def prepare(batches):
    keras.utils.set_random_seed(0)
    spp = {"class_name": "function", "config": "kgcnn>shifted_softplus"}
    energy = make_crystal_model(
        input_node_embedding={"input_dim": 119, "output_dim": 64},
        gauss_args={"bins": 50, "distance": 5, "offset": 0.0, "sigma": 0.1},
        depth=3,
        interaction_args={
            "units": 64,
            "use_bias": True,
            "activation": spp,
            "cfconv_pool": "scatter_sum",
        },
        node_pooling_args={"pooling_method": "scatter_sum"},
        use_output_mlp=False,
        last_mlp={
            "use_bias": [True, True],
            "units": [32, 1],
            "activation": [spp, "linear"],
        },
    )
    model = EnergyForceModel(
        model_energy=energy,
        coordinate_input=1,
        output_squeeze_states=True,
        name="potential",
        outputs={
            "energy": {"name": "energy", "shape": (1,)},
            "force": {"name": "force", "shape": (None, 3)},
        },
    )
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(energy.trainable_variables)
    data = [convert(b) for b in batches]

    @tf.function(reduce_retracing=True)
    def train(inputs, labels):
        label, energy_scale, forces, force_scale = labels
        present = force_scale > 0
        with tf.GradientTape() as tape:
            out = model(inputs, training=True)
            error = (out["energy"][:, 0] - label) / energy_scale
            force = tf.math.divide_no_nan(out["force"] - forces, force_scale)
            loss = tf.reduce_mean(error**2) + tf.reduce_sum(force**2) / (
                tf.reduce_sum(tf.cast(present, "float32"))
            )
        gradients = tape.gradient(loss, energy.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, energy.trainable_variables, strict=True)
        )
        return loss

    def step(batch):
        if not np.isfinite(train(*batch).numpy()):
            raise FloatingPointError("The loss is not finite.")

    return step, data


if __name__ == "__main__":
    serve(*prepare(read_batches(sys.argv[2])))
