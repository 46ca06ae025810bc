"""Progress of a training run in the terminal."""

import math
import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

# Key of the logs, heading, unit, factor, format.
_COLUMNS = (
    ("loss", "loss", "training", 1.0, "10.4f"),
    ("val_loss", "loss", "validation", 1.0, "12.4f"),
    ("val_energy_mae", "E MAE", "meV/atom", 1e3, "10.2f"),
    ("val_forces_rmse", "F RMSE", "meV/Å", 1e3, "9.1f"),
    ("val_virial_rmse", "W RMSE", "meV/atom", 1e3, "10.1f"),
)


class EpochLines(keras.callbacks.Callback):
    """A progress bar for each epoch, and a line when it is over.

    Args:
        console: where to print.
        total_epochs: if known.
        virial: whether there is a column for them.
    """

    def __init__(
        self, console: Console, total_epochs: int | None = None, virial: bool = False
    ) -> None:
        """Take the console."""
        super().__init__()
        self.console = console
        self.total_epochs = total_epochs
        self.virial = virial
        self._start = 0.0
        self._progress = Progress(disable=True)

    def on_train_begin(self, logs: Any = None) -> None:
        """Print the heading."""
        self._start = time.monotonic()
        for heading, first in ((1, f"{'epoch':>6}{'time':>8}"), (2, f"{'s':>14}")):
            cells = (
                f"{column[heading]:>{int(column[4].split('.')[0])}}"
                for column in _COLUMNS
                if self.virial or column[0] != "val_virial_rmse"
            )
            self.console.print(first + "".join(cells), highlight=False)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start a bar, in a terminal."""
        total = "" if self.total_epochs is None else f"/{self.total_epochs}"
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1}{total}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} batches"),
            TimeElapsedColumn(),
            TextColumn("loss {task.fields[loss]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task("", total=self.params["steps"], loss="-")
        self._progress.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Advance the bar."""
        loss = f"{(logs or {}).get('loss', float('nan')):.4f}"
        # The last of several steps in one execution may lie beyond the epoch.
        done = min(batch + 1, self.params["steps"] or batch + 1)
        self._progress.update(self._task, completed=done, loss=loss)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Print the line."""
        self.close()
        elapsed = time.monotonic() - self._start
        logs = logs or {}
        values = "".join(
            _cell(logs[key] * factor, form)
            for key, _, _, factor, form in _COLUMNS
            if key in logs
        )
        self.console.print(f"{epoch + 1:>6}{elapsed:>8.1f}{values}", highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def _cell(value: float, form: str) -> str:
    """Format a number; a metric without labels is not one."""
    if math.isnan(value):
        return f"{'–':>{form.split('.')[0]}}"  # noqa: RUF001
    return format(value, form)
