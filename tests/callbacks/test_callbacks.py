import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.callbacks import (
    BestModel,
    CosineBudget,
    LossWeightSchedule,
    StopOnNaN,
    cosine_budget,
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


# A warm-up of so many steps, but of at most 5 % of the 80.
@pytest.mark.parametrize(
    ("steps", "warm"), [(2, [1 / 3, 2 / 3]), (50, [1 / 51, 1 / 4, 2 / 4, 3 / 4])]
)
def test_rate_follows_warmup_and_cosine(model, steps, warm):
    rates = Rates()
    budget = CosineBudget(0.2, epochs=20, final_fraction=0.1, warmup_steps=steps)
    history = fit(model, budget, rates, epochs=100)
    assert len(history.history["loss"]) == 20
    cosine = (1 + np.cos(np.pi * np.arange(80) / 80)) / 2
    expected = 0.02 + (0.2 - 0.02) * cosine
    expected[: len(warm)] *= warm
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


class Clock(keras.callbacks.Callback):
    """Time goes by in steps alone: 45 s in the first of a fit, 1 s in each other."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now, self.first = 1e5, True
        monkeypatch.setattr(cosine_budget, "time", self)

    def monotonic(self):
        return self.now

    def on_train_begin(self, logs=None):
        self.first = True

    def on_train_batch_end(self, batch, logs=None):
        self.now += 45.0 if self.first else 1.0
        self.first = False


def test_time_begins_after_the_first_step(model, monkeypatch):
    clock, rates = Clock(monkeypatch), Rates()
    budget = CosineBudget(0.2, minutes=1, final_fraction=0.1)
    history = fit(model, clock, budget, rates, epochs=10**6)
    seconds = np.array([0, *range(60)])
    assert budget.state() == {"step": 61, "seconds": 60.0}
    assert len(history.history["loss"]) == 16
    # 5 % of the time are 3 s, less than 50 steps.
    warm = np.minimum(np.maximum(np.arange(1, 62) / 51, seconds / 3), 1)
    cosine = (1 + np.cos(np.pi * seconds / 60)) / 2
    np.testing.assert_allclose(rates.rates, warm * (0.02 + 0.18 * cosine), rtol=1e-5)


def test_a_run_that_goes_on_has_the_minutes_that_were_left(model, monkeypatch):
    clock = Clock(monkeypatch)
    first = CosineBudget(0.2, minutes=1)
    fit(model, clock, first, epochs=5)
    state = first.state()
    assert state == {"step": 20, "seconds": 19.0}
    clock.now += 1e4
    budget = CosineBudget(0.2, minutes=1)
    budget.set_state(state)
    fit(model, clock, budget, epochs=10**6)
    # The first step of either fit takes no time.
    assert budget.state() == {"step": 62, "seconds": 60.0}


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
