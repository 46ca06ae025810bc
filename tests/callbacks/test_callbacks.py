import math
import time

import keras
import numpy as np
import pytest

from tfpes.callbacks import BestModel, CosineBudget, StopOnNaN


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

    def on_train_batch_end(self, batch, logs=None):
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
