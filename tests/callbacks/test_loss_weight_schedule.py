"""`LossWeightSchedule`: weights that a compiled step reads."""

import keras
import numpy as np
import pytest

import tfpes
from tfpes.callbacks import BestModel, LossWeightSchedule, exponential, linear, step

X = np.ones((8, 1), np.float32)
Y = {"a": 3 * X, "b": 5 * X}


class Counted(keras.losses.Loss):
    """A squared error that counts how often it is traced."""

    def __init__(self):
        super().__init__()
        self.traces = 0

    def call(self, y_true, y_pred):
        self.traces += 1
        return keras.ops.square(y_true - y_pred)


def make(weights, learning_rate=0.0, loss=None, jit_compile=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((1,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in "ab"}
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(learning_rate),
        loss={"a": loss or "mse", "b": "mse"},
        loss_weights=weights,
        jit_compile=jit_compile,
    )
    return model


def fit(model, *callbacks, epochs=4, validate=True, **options):
    return model.fit(
        X, Y, epochs=epochs, verbose=0, callbacks=list(callbacks),
        validation_data=(X, Y) if validate else None, **options,
    ).history  # fmt: skip


SCHEDULE = {"a": linear(1.0, 3.0, epochs=2), "b": step({0: 0.5, 3: 100.0})}
WEIGHTS = {"a": [1.0, 2.0, 3.0, 3.0], "b": [0.5, 0.5, 0.5, 100.0]}


@pytest.mark.parametrize("jit_compile", [True, False])
def test_traced_once_and_seen_in_each_epoch(jit_compile, close):
    schedule, loss = LossWeightSchedule(**SCHEDULE), Counted()
    model = make(schedule.weights, loss=loss, jit_compile=jit_compile)
    fit(model, schedule, epochs=1, validate=False)
    traces = loss.traces
    logs = fit(model, schedule, validate=False)
    assert loss.traces == traces
    for key, weights in WEIGHTS.items():
        assert logs[f"{key}_weight"] == weights
    expected = sum(np.multiply(WEIGHTS[key], logs[f"{key}_loss"]) for key in "ab")
    close(logs["loss"], expected, "float32")


def test_gradients_follow_the_weights():
    """The first epoch trains one output alone, the second the other."""
    schedule = LossWeightSchedule(a=step({0: 1.0, 1: 0.0}), b=step({0: 0.0, 1: 1.0}))
    model = make(schedule.weights, learning_rate=0.1)
    logs = fit(model, schedule, epochs=3)
    assert logs["val_a_loss"][0] < logs["a_loss"][0]
    assert logs["val_a_loss"][0] == logs["val_a_loss"][1] == logs["val_a_loss"][2]
    assert logs["b_loss"][0] == logs["b_loss"][1] > logs["b_loss"][2]


def test_validation_and_evaluate_use_the_weights_of_the_epoch(close):
    schedule = LossWeightSchedule(**SCHEDULE)
    model = make(schedule.weights)
    logs = fit(model, schedule)
    expected = sum(np.multiply(WEIGHTS[key], logs[f"val_{key}_loss"]) for key in "ab")
    close(logs["val_loss"], expected, "float32")
    loss = model.evaluate(X, Y, return_dict=True, verbose=0)["loss"]
    assert loss == pytest.approx(logs["val_loss"][-1], rel=1e-6)


def test_the_same_weights_after_going_on():
    schedule = LossWeightSchedule(**SCHEDULE)
    logs = fit(make(schedule.weights), schedule, initial_epoch=2)
    for key, weights in WEIGHTS.items():
        assert logs[f"{key}_weight"] == weights[2:]


@pytest.mark.slow
def test_a_saved_model_has_the_latest_weights(tmp_path):
    schedule = LossWeightSchedule(**SCHEDULE)
    model = make(schedule.weights)
    fit(model, schedule)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.evaluate(X, Y, return_dict=True, verbose=0)
    assert loaded.evaluate(X, Y, return_dict=True, verbose=0) == expected
    # Compiled again, it goes on with a schedule.
    again = LossWeightSchedule(**SCHEDULE)
    loaded.compile(loaded.optimizer, loaded.loss, loss_weights=again.weights)
    logs = fit(loaded, again, initial_epoch=1)
    assert logs["a_weight"] == [2.0, 3.0, 3.0]


def test_standardized_losses_under_xla(dense):
    """One in float64, one in float32."""
    norm = tfpes.layers.PESNormalization(
        energy_mean={"H": -1.0}, energy_variance={"H": 0.5}, force_scale={"H": 2.0}
    )
    counts = dense({1: 2}, {1: 3}).astype(float)
    inputs = {
        "counts": keras.Input((119,), name="counts", dtype="float64"),
        "x": keras.Input((3,), name="x"),
    }
    outputs = {
        "energy": keras.layers.Dense(1, dtype="float64")(inputs["counts"]),
        "forces": keras.layers.Dense(3)(inputs["x"]),
    }
    schedule = LossWeightSchedule(energy=exponential(1.0, 100.0, epochs=2), forces=1.0)
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.0),
        loss={
            "energy": tfpes.losses.EnergyLoss(norm),
            "forces": tfpes.losses.ForceLoss(norm),
        },
        loss_weights=schedule.weights,
        jit_compile=True,
    )
    targets = {
        "energy": tfpes.targets.structure_target([-2.5, -2.0], counts),
        "forces": tfpes.targets.atom_target(np.eye(3)[:2], [1, 1], [0, 1]),
    }
    data = {"counts": counts, "x": np.ones((2, 3), np.float32)}
    logs = model.fit(data, targets, epochs=3, verbose=0, callbacks=[schedule]).history
    np.testing.assert_allclose(logs["energy_weight"], [1.0, 10.0, 100.0])
    expected = np.multiply(logs["energy_weight"], logs["energy_loss"])
    np.testing.assert_allclose(logs["loss"], expected + logs["forces_loss"], rtol=1e-6)


def test_a_schedule_of_keras():
    decay = keras.optimizers.schedules.ExponentialDecay(8.0, 1, 0.5)
    assert LossWeightSchedule(a=decay)(epoch=3) == {"a": pytest.approx(1.0)}


def test_a_model_with_other_weights():
    schedule = LossWeightSchedule(**SCHEDULE)
    for weights in (None, {"a": 1.0, "b": 1.0}, {**schedule.weights, "b": 1.0}):
        schedule = LossWeightSchedule(**SCHEDULE)
        with pytest.raises(RuntimeError, match=r"Pass `loss_weights=schedule.weights`"):
            fit(make(weights), schedule)


def test_bad_weights():
    with pytest.raises(ValueError, match="needs a schedule for each output"):
        LossWeightSchedule()
    with pytest.raises(TypeError, match="a number or a function of the epoch"):
        LossWeightSchedule(energy="1:100")
    for value in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="finite and not negative"):
            LossWeightSchedule(energy=value)
    schedule = LossWeightSchedule(a=lambda epoch: 1.0 - epoch, b=1.0)
    with pytest.raises(ValueError, match=r"Received: -1.0 for 'a' in epoch 2"):
        fit(make(schedule.weights), schedule)


# -- schedules ----------------------------------------------------------------------


def test_shapes_of_schedules():
    epochs = np.arange(8)
    values = [linear(4.0, 1.0, epochs=5)(epoch) for epoch in epochs]
    np.testing.assert_allclose(values, np.interp(epochs, [0, 5], [4, 1]), rtol=1e-15)
    values = [exponential(4.0, 1.0, epochs=5)(epoch) for epoch in epochs]
    logarithm = np.interp(epochs, [0, 5], np.log([4, 1]))
    np.testing.assert_allclose(values, np.exp(logarithm), rtol=1e-14)
    values = [step({5: 3, 0: 1, 2: 2})(epoch) for epoch in epochs]
    assert values == [1, 1, 2, 2, 2, 3, 3, 3]


def test_bad_schedules():
    for schedule in (linear, exponential):
        with pytest.raises(ValueError, match="`epochs` must be positive"):
            schedule(1.0, 2.0, epochs=0)
    for start, end in ((0, 1), (1, 0), (-1, -2)):
        with pytest.raises(ValueError, match="Use `linear` or `step`"):
            exponential(start, end, epochs=3)
    for values in ({}, {1: 2.0}, {-1: 1.0, 0: 1.0}):
        with pytest.raises(ValueError, match="Add a value for epoch 0"):
            step(values)


# -- the best epoch -----------------------------------------------------------------


class Assign(keras.callbacks.Callback):
    """Give the model errors of its own before the validation of each epoch."""

    def __init__(self, errors):
        super().__init__()
        self.errors = list(errors)

    def on_test_begin(self, logs=None):
        a, b = self.errors.pop(0)
        for name, kernel in (("a", 3.0 + a), ("b", 5.0 + b)):
            weights = [np.array([[kernel]]), np.zeros(1)]
            self.model.get_layer(name).set_weights(weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("errors", "best_epoch"),
    [
        # Better under the new weights, though its loss is larger than ever.
        ([(1.0, 1.0), (2.0, 0.5)], 1),
        # Worse under the new weights; it would have been better under the old ones.
        ([(2.0, 1.0), (1.0, 1.1)], 0),
        # Compared with the best one, not with the latest.
        ([(1.0, 1.0), (1.0, 2.0), (1.0, 1.5), (1.0, 0.5)], 3),
    ],
)
def test_best_model_compares_under_the_present_weights(errors, best_epoch, tmp_path):
    schedule = LossWeightSchedule(a=1.0, b=step({0: 1.0, 1: 100.0}))
    best = BestModel(tmp_path / "model.keras", interval=1e9)
    model = make(schedule.weights)
    fit(model, schedule, best, Assign(errors), epochs=len(errors))
    assert best.best_epoch == best_epoch
    a, b = errors[best_epoch]
    assert best.best == pytest.approx(a**2 + 100 * b**2, rel=1e-5)
