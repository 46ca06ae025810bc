"""Keeping the best epoch."""

import os
import pathlib
import time
from typing import Any

import keras


class BestModel(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest validation loss, also on disk.

    The file is replaced in one step, so that it is always complete. Writing waits
    until ``interval`` seconds have passed since the last time; ``write()`` does not
    wait.

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
        self._pending = False
        self._last_write = float("-inf")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Compare with the best."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            raise ValueError(
                f"`monitor` must be a key of the logs. Received: {self.monitor!r}; "
                f"keys: {sorted(logs or {})}. Pass `validation_data` to `fit`."
            )
        if value < self.best:
            self.best, self.best_epoch = float(value), epoch
            self._weights = self.model.get_weights()
            self._pending = True
        if self._pending and time.monotonic() - self._last_write > self.interval:
            self.write()

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
    unfinished = path.with_name(f".{path.stem}.unfinished.keras")
    try:
        model.save(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
