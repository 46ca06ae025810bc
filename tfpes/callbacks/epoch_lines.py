"""Progress of a training run in the terminal."""

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_COLUMNS = (
    ("loss", "loss", 1.0, "9.4f"),
    ("val_loss", "val loss", 1.0, "9.4f"),
    ("val_energy_mae", "E MAE", 1e3, "9.2f"),
    ("val_forces_rmse", "F RMSE", 1e3, "9.1f"),
)


class EpochLines(keras.callbacks.Callback):
    """A progress bar for each epoch, and a line when it is over.

    Args:
        console: where to print.
        total_epochs: if known.
    """

    def __init__(self, console: Console, total_epochs: int | None = None) -> None:
        """Take the console."""
        super().__init__()
        self.console = console
        self.total_epochs = total_epochs
        self._start = 0.0
        self._progress: Progress | None = None
        self._task: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Print the heading."""
        self._start = time.monotonic()
        names = "".join(f"{name:>10}" for _, name, _, _ in _COLUMNS)
        self.console.print(f"{'epoch':>6}{'time':>7}{names}   (validation: meV/atom,")
        self.console.print(f"{'':>6}{'s':>7}{'':>{10 * len(_COLUMNS)}}    meV/Å)")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start a bar."""
        total = "" if self.total_epochs is None else f"/{self.total_epochs}"
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1}{total}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} batches"),
            TimeElapsedColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=self.params["steps"], loss="-")
        self._progress.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Advance the bar."""
        if self._progress is not None:
            loss = f"{(logs or {}).get('loss', float('nan')):.4f}"
            self._progress.update(self._task, completed=batch + 1, loss=loss)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Print the line."""
        self.close()
        elapsed = time.monotonic() - self._start
        values = "".join(
            f" {format((logs or {})[key] * factor, form)}"
            if key in (logs or {})
            else ""
            for key, _, factor, form in _COLUMNS
        )
        self.console.print(f"{epoch + 1:>6}{elapsed:>7.1f}{values}", highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
