import math
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.callbacks import (
    BestModel,
    CosineBudget,
    LossWeightSchedule,
    StopOnNaN,
    linear,
)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    return model


X = np.linspace(-1, 1, 32)[:, None].astype(np.float32)
Y = 3 * X + 1


def fit(model, *callbacks, epochs=4, **options):
    return model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, shuffle=False,
        validation_data=(X, Y), callbacks=list(callbacks), **options,
    )  # fmt: skip


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


# -- CosineBudget -------------------------------------------------------------------


def test_rate_follows_warmup_and_cosine(model):
    rates = Rates()
    budget = CosineBudget(0.2, epochs=5, final_fraction=0.1, warmup_steps=3)
    history = fit(model, budget, rates, epochs=100)
    assert len(history.history["loss"]) == 5
    expected = []
    for step in range(20):
        cosine = (1 + math.cos(math.pi * step / 20)) / 2
        rate = 0.02 + (0.2 - 0.02) * cosine
        expected.append(rate * min((step + 1) / 4, 1))
    np.testing.assert_allclose(rates.rates, expected, rtol=1e-6)


class Count(keras.callbacks.Callback):
    calls = 0

    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_steps_per_execution_change_nothing(steps):
    """Not even the last digit; 13 batches end with a tail of 1 and of 13."""
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensor_slices(rng.normal(size=(13, 8, 2)))

    def train(steps):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((1,))
        model = keras.Model(inputs, {"y": keras.layers.Dense(1)(inputs)})
        budget = CosineBudget(0.05, epochs=3, warmup_steps=5)
        schedule = LossWeightSchedule(**{"y": linear(1.0, 3.0, epochs=3)})
        model.compile(
            keras.optimizers.Adam(budget.schedule), {"y": "mse"}, jit_compile=True,
            loss_weights=schedule.weights, steps_per_execution=steps,
        )  # fmt: skip
        count = Count()
        history = model.fit(
            data.map(lambda rows: (rows[:, :1], {"y": rows[:, 1:]})), epochs=3,
            shuffle=False, verbose=0,
            callbacks=[budget, schedule, StopOnNaN(), count],
        )  # fmt: skip
        assert budget.progress == 1.0
        return history.history, model.get_weights(), count.calls

    one, several = train(1), train(steps)
    assert several[0] == one[0]
    for first, second in zip(one[1], several[1], strict=True):
        np.testing.assert_array_equal(first, second)
    assert several[2] == 3 * math.ceil(13 / steps)


def test_several_steps_need_the_schedule(model):
    model.compile(optimizer="sgd", loss="mse", steps_per_execution=4)
    with pytest.raises(RuntimeError, match=r"Pass the optimizer `CosineBudget\.sched"):
        fit(model, CosineBudget(0.1, epochs=1))


def test_another_schedule_is_refused(model):
    model.compile(keras.optimizers.SGD(CosineBudget(0.2, epochs=1).schedule), "mse")
    with pytest.raises(RuntimeError, match="another schedule"):
        fit(model, CosineBudget(0.1, epochs=1))


def test_schedule_is_saved(model, tmp_path):
    budget = CosineBudget(0.2, epochs=2)
    model.compile(keras.optimizers.SGD(budget.schedule), "mse")
    fit(model, budget, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    rates = [float(m.optimizer.learning_rate) for m in (loaded, model)]
    assert rates[0] == rates[1] > 0


def test_budget_of_time_stops(model):
    start = time.monotonic()
    history = fit(model, CosineBudget(0.1, minutes=0.02), epochs=10**6)
    assert time.monotonic() - start > 1.2
    assert 1 <= len(history.history["loss"]) < 10**6
    assert float(model.optimizer.learning_rate) < 0.01


@pytest.mark.parametrize(
    "budget",
    [{}, {"epochs": 1, "minutes": 1}, {"epochs": 0}, {"minutes": -1}],
    ids=str,
)
def test_one_positive_budget(budget):
    with pytest.raises(ValueError, match="A budget is a positive number of either"):
        CosineBudget(0.1, **budget)


# -- BestModel ----------------------------------------------------------------------


class Ruin(keras.callbacks.Callback):
    """Spoil the model from the third epoch on."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= 2:
            self.model.set_weights([np.array([[50.0]]), np.array([9.0])])


def test_best_epoch_is_kept_and_written(model, tmp_path):
    best = BestModel(tmp_path / "model.keras", interval=1e9)
    history = fit(model, best, Ruin())
    values = history.history["val_loss"]
    assert best.best_epoch == int(np.argmin(values)) == 1
    latest = model.get_weights()
    best.write()
    for before, after in zip(latest, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)  # writing changes nothing
    best.restore()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(min(values), rel=1e-6)
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(min(values), rel=1e-6)


def test_failing_write_keeps_the_previous_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(b"the previous model")
    best = BestModel(path, interval=1e9)
    fit(model, best, epochs=1)

    def fail(self, target):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    path.write_bytes(b"the previous model")
    best._pending = True
    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        best.write()
    assert path.read_bytes() == b"the previous model"
    assert [p.name for p in tmp_path.iterdir()] == ["model.keras"]


def test_best_model_needs_its_key(model, tmp_path):
    best = BestModel(tmp_path / "model.keras", monitor="val_energy")
    with pytest.raises(ValueError, match="must be a key of the logs"):
        fit(model, best)


# -- StopOnNaN ----------------------------------------------------------------------


def test_nan_names_epoch_and_batch(model):
    labels = Y.copy()
    labels[17] = np.nan  # the third batch of eight
    with pytest.raises(FloatingPointError, match="epoch 1, batch 3"):
        model.fit(X, labels, batch_size=8, shuffle=False, verbose=0,
                  callbacks=[StopOnNaN()])  # fmt: skip


def test_nan_names_the_batches_of_an_execution(model):
    model.compile(optimizer="sgd", loss="mse", steps_per_execution=3)
    labels = Y.copy()
    labels[31] = np.nan  # the last batch of four
    with pytest.raises(FloatingPointError, match="epoch 1, batch 4"):
        model.fit(X, labels, batch_size=8, shuffle=False, verbose=0,
                  callbacks=[StopOnNaN()])  # fmt: skip
    labels[3] = np.nan
    with pytest.raises(FloatingPointError, match="one of the batches 1 to 3"):
        model.fit(X, labels, batch_size=8, shuffle=False, verbose=0,
                  callbacks=[StopOnNaN()])  # fmt: skip
