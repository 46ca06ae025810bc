"""Does the step of these benchmarks compute what compile and fit do?

    python benchmarks/evidence_check.py

Compares, batch by batch with the same weights, what the step that all losses share
says with EnergyLoss and ForceLoss through ``compile`` and ``fit``. Only losses are
compared: Adam of Keras 3.15 does not add up the rows of a sparse gradient, as an
embedding has, that belong to the same element. The shared step makes gradients dense.
"""

import keras
import numpy as np
import tensorflow as tf
from evidence import data
from evidence.losses import standardized
from evidence.study import QUICK, normalization
from evidence.trainer import Trainer

import tfpes


def main():
    rate, ratio = 0.0, 3.0
    train, _, test = data.load("molecules", QUICK["cutoff"], QUICK["most"])
    layer = normalization(train, "auto")
    trainer = Trainer(train, {"test": test}, layer, QUICK)
    batches = trainer.batches["grouping 0"]
    trainer.reset(0)
    loss = standardized(layer).numbers(ratio)
    ours = []
    for inputs, targets in batches:
        trainer.optimizer.learning_rate.assign(rate)
        ours.append(trainer.step(inputs, targets, loss))

    trainer.reset(0)
    model = trainer.model
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss={
            "energy": tfpes.losses.EnergyLoss(layer),
            "forces": tfpes.losses.ForceLoss(layer),
        },
        loss_weights={"energy": ratio / (1 + ratio), "forces": 1 / (1 + ratio)},
        jit_compile=True,
    )
    theirs = []
    for batch in batches:
        dataset = tf.data.Dataset.from_tensors(batch)
        theirs.append(model.fit(dataset, verbose=0).history)
    for i, key in enumerate(("loss", "energy_loss", "forces_loss")):
        mine = np.array([float(x[i]) for x in ours])
        keras_loss = np.array([x[key][0] for x in theirs])
        print(f"{key:12s} relative difference, {len(mine)} batches: "
              f"{np.abs(mine / keras_loss - 1).max():.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
