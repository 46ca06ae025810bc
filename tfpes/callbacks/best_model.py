"""Keeping the best epoch."""

import os
import pathlib
import time
from typing import Any

import keras

from tfpes.files import replacing


class BestModel(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest validation loss, also on disk.

    The file is replaced in one step, so that it is always complete. Writing waits
    until ``interval`` seconds have passed since the last time; ``write()`` does not
    wait.

    Where a :class:`LossWeightSchedule` before this callback changes the weights, an
    epoch and the best one so far are compared under the present weights:
    Σ w_key(now) val_key_loss of both.

    Args:
        path: a ``.keras`` file.
        monitor: key of the logs to minimize.
        interval: least time between two writes, s.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str = "val_loss",
        interval: float = 20.0,
    ) -> None:
        """Remember the path."""
        super().__init__()
        self.path = pathlib.Path(path)
        self.monitor = monitor
        self.interval = interval
        self.best = float("inf")
        self.best_epoch: int | None = None
        self._weights: Any = None
        # Of the best epoch: the losses that scheduled weights apply to.
        self._losses: dict[str, float] = {}
        self._pending = False
        self._last_write = float("-inf")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compare with the best."""
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"`monitor` must be a key of the logs. Received: {self.monitor!r}; "
                f"keys: {sorted(logs)}. Pass `validation_data` to `fit`."
            )
        value, losses = self._weighted(float(logs[self.monitor]), logs)
        if value < self.best:
            self.best, self.best_epoch = value, epoch
            self._losses = losses
            self._weights = self.model.get_weights()
            self._pending = True
        if self._pending and time.monotonic() - self._last_write > self.interval:
            self.write()

    def _weighted(
        self, value: float, logs: dict[str, float]
    ) -> tuple[float, dict[str, float]]:
        """Return the value to compare, after weighting the best one like it."""
        keys = [n.removesuffix("_weight") for n in logs if n.endswith("_weight")]
        weights = {k: logs[f"{k}_weight"] for k in keys if f"val_{k}_loss" in logs}
        if self.monitor != "val_loss" or not weights:
            return value, {}
        if self._losses:
            self.best = sum(w * self._losses[key] for key, w in weights.items())
        losses = {key: logs[f"val_{key}_loss"] for key in weights}
        return sum(w * losses[key] for key, w in weights.items()), losses

    def state(self) -> dict[str, Any]:
        """Return what :meth:`set_state` needs to go on: numbers, and the weights."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "losses": self._losses,
            "weights": self._weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self._losses, self._weights = state["losses"], state["weights"]
        # The file may be older or newer.
        self._pending = self._weights is not None

    def restore(self) -> None:
        """Give the model the best weights, if any epoch was completed."""
        if self._weights is not None:
            self.model.set_weights(self._weights)

    def write(self) -> None:
        """Write the best weights, if they are not on disk yet."""
        if not self._pending:
            return
        latest = self.model.get_weights()
        self.restore()
        save_model(self.model, self.path)
        self.model.set_weights(latest)
        self._pending = False
        self._last_write = time.monotonic()


def save_model(model: keras.Model, path: pathlib.Path) -> None:
    """Write a ``.keras`` file completely or not at all."""
    with replacing(path) as unfinished:
        model.save(unfinished)
