"""Stopping when the loss is not a number."""

import math

import keras


class StopOnNaN(keras.callbacks.Callback):
    """Raises a FloatingPointError that names the first batch with a bad loss.

    With several steps in one execution, the first of these with a bad loss among them.

    ``keras.callbacks.TerminateOnNaN`` prints a line and lets ``fit`` return as if all
    were well.
    """

    def __init__(self) -> None:
        """Start at the first epoch."""
        super().__init__()
        self._epoch = self._first = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Remember the first batch of an execution."""
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Check the loss."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            # The last execution of an epoch may be shorter.
            last = min(batch + 1, self.params.get("steps") or batch + 1)
            where = f"batch {last}"
            if last > self._first + 1:
                where = f"one of the batches {self._first + 1} to {last}"
            raise FloatingPointError(
                f"The loss must be finite. Received: {loss} in epoch "
                f"{self._epoch + 1}, {where}. Lower the learning rate "
                "(`--learning-rate`), or look for wrong labels among the structures."
            )
