"""`compile`, `fit`, `evaluate` and files, with a model that knows nothing of tfpes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.losses import EnergyLoss, ForceLoss, VirialLoss
from tfpes.metrics import (
    EFwT,
    EnergyMAE,
    EnergyRMSE,
    ForceCosine,
    ForceMAE,
    ForceRMSE,
    MaxForceError,
    StandardizedRMSE,
    VirialMAE,
    VirialRMSE,
)

KEYS = ("energy", "forces", "virial")
LOSSES = (EnergyLoss, ForceLoss, VirialLoss)


def all_metrics(norm):
    """Return every metric that ``compile`` takes, by key."""
    return {
        "energy": [
            EnergyMAE(),
            EnergyRMSE(),
            EnergyRMSE(per_atom=False, name="total_rmse"),
            StandardizedRMSE(norm, "energy"),
        ],
        "forces": [
            ForceMAE(),
            ForceRMSE(),
            ForceRMSE(element="Cu"),
            ForceCosine(),
            MaxForceError(),
            StandardizedRMSE(norm, "forces"),
        ],
        "virial": [VirialMAE(), VirialRMSE(), StandardizedRMSE(norm, "virial")],
    }


@keras.saving.register_keras_serializable(package="tests")
class Echo(keras.Model):
    """Returns its inputs, a little larger."""

    def __init__(self, **options):
        super().__init__(**options)
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, inputs):
        factor = 1.0 + 1e-5 * self.factor
        return {k: v * tf.cast(factor, v.dtype) for k, v in inputs.items()}


@keras.saving.register_keras_serializable(package="tests")
class Both(Echo):
    """What the documentation of `EFwT` describes."""

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.efwt.update_state(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)


@pytest.fixture(scope="module")
def dataset(batch):
    batches = []
    for seed in range(3):
        made = {key: batch(key, seed) for key in KEYS}
        targets, inputs, weights = (
            {key: case[part] for key, case in made.items()} for part in range(3)
        )
        weights = {key: np.nan_to_num(weight) for key, weight in weights.items()}
        batches.append(tf.data.Dataset.from_tensors((inputs, targets, weights)))
    return batches[0].concatenate(batches[1]).concatenate(batches[2])


@pytest.fixture(scope="module")
def compiled(norm_, dataset):
    model = Echo()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss={key: loss(norm_) for key, loss in zip(KEYS, LOSSES, strict=True)},
        metrics=all_metrics(norm_),
        weighted_metrics={"forces": [ForceRMSE(name="weighted_rmse")]},
        jit_compile=True,
    )
    # Keras traces a step in which it makes variables a second time.
    model.optimizer.build(model.trainable_variables)
    ((inputs, targets, _), *_) = dataset
    model.compute_loss(y=targets, y_pred=inputs)
    model.fit(dataset, epochs=1, shuffle=False, verbose=0)
    return model


def alone(metric, key, model, dataset, weighted=False):
    """Return a metric without `compile`."""
    metric = type(metric).from_config(metric.get_config())
    for inputs, targets, weights in dataset:
        weight = weights[key] if weighted else None
        metric.update_state(targets[key], model(inputs)[key], weight)
    return metric.result()


@pytest.mark.slow
def test_logged_values(compiled, dataset, norm_):
    logs = compiled.evaluate(dataset, return_dict=True, verbose=0)
    for key, metrics in all_metrics(norm_).items():
        for metric in metrics:
            expected = alone(metric, key, compiled, dataset)
            np.testing.assert_allclose(
                logs[f"{key}_{metric.name}"], expected, rtol=1e-6
            )
    # Only what is compiled as weighted sees the weights.
    expected = alone(ForceRMSE(), "forces", compiled, dataset, weighted=True)
    np.testing.assert_allclose(logs["forces_weighted_rmse"], expected, rtol=1e-6)
    assert abs(expected - logs["forces_rmse"]) > 1e-3


def test_standardized_rmse_is_the_root_of_the_loss(dataset, norm_, close):
    inputs, targets, _ = next(iter(dataset))
    for key, loss in zip(KEYS, LOSSES, strict=True):
        metric = StandardizedRMSE(norm_, key)
        metric.update_state(targets[key], inputs[key])
        value = loss(norm_)(targets[key], inputs[key])
        close(metric.result() ** 2, value, "float32")


@pytest.mark.slow
def test_saved_and_loaded(compiled, dataset, tmp_path):
    expected = compiled.evaluate(dataset, return_dict=True, verbose=0)
    compiled.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = loaded.evaluate(dataset, return_dict=True, verbose=0)
    assert found.keys() == expected.keys()
    assert len(found) == 4 + 4 + 7 + 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_efwt_in_keras_as_documented(dataset, norm_):
    model = Both()
    model.efwt = EFwT(0.9, 1.8)
    model.compile("sgd", {"energy": EnergyLoss(norm_)}, jit_compile=True)
    data = dataset.map(lambda inputs, targets, weights: (inputs, targets))
    logs = model.evaluate(data, verbose=0, return_dict=True)
    expected = EFwT(0.9, 1.8)
    for inputs, targets in data:
        expected.update_state(targets, model(inputs))
    assert 0.0 < float(expected.result()) < 1.0
    assert logs["efwt"] == float(expected.result())
