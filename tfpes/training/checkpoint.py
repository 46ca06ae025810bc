"""Everything that a run needs to go on, in one file."""

import json
import os
import pathlib
import time
import zipfile
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tfpes.callbacks import BestModel, CosineBudget
from tfpes.files import replacing

_FORMAT_VERSION = 1
_KEYS = {"model", "epoch", "trained", "history", "report", "budget", "best"}
# The rest of the time is for training.
_SHARE_OF_TIME = 0.05


class Checkpoint(keras.callbacks.Callback):
    """Writes the state of a run at the end of an epoch, and gathers its history.

    The file is an ``.npz`` of the arrays of the model, its optimizer and the best
    model so far, and of one JSON text with all the rest. It is replaced in one step.
    Where epochs are short, writing takes at most a twentieth of the time; what was
    not written is computed again, with the same result.

    Args:
        path: of the file.
        best: comes before this callback.
        budget: comes before this callback.
        report: on the statistics, for the results of a run that went on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        best: BestModel,
        budget: CosineBudget,
        report: dict[str, Any] | None,
    ) -> None:
        """Begin at epoch 0."""
        super().__init__()
        self.path = pathlib.Path(path)
        self.best = best
        self.budget = budget
        self.report = report
        self.epoch = 0
        self.history: dict[str, list[float]] = {}
        self.trained = False
        self._next_write = float("-inf")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add to the history, and write."""
        self.epoch = epoch + 1
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(float(value))
        self.trained = bool(self.model.stop_training)
        start = time.monotonic()
        if self.trained or start >= self._next_write:
            self.write()
            now = time.monotonic()
            self._next_write = now + (now - start) / _SHARE_OF_TIME

    def write(self) -> None:
        """Write the file.

        Raises:
            OSError: if that is impossible; the previous file is then intact.
        """
        best = self.best.state()
        model = keras.saving.serialize_keras_object(self.model)
        # The run compiles it again.
        model.pop("compile_config", None)
        state = {
            "format_version": _FORMAT_VERSION,
            "model": model,
            "epoch": self.epoch,
            "trained": self.trained,
            "history": self.history,
            "report": self.report,
            "budget": self.budget.state(),
            "best": {**best, "weights": None},
        }
        groups = {
            "model": self.model.get_weights(),
            "optimizer": [v.numpy() for v in self.model.optimizer.variables],
            "best": best["weights"] or [],
        }
        # What the layer gathered is no weight.
        gathered: dict[str, NDArray] = {}
        self.model.normalization.save_own_variables(gathered)
        arrays = {
            f"{group}/{number:05d}": array
            for group, members in groups.items()
            for number, array in enumerate(members)
        }
        arrays |= {f"normalization/{name}": a for name, a in gathered.items()}
        try:
            with replacing(self.path) as unfinished:
                np.savez(unfinished, state=np.array(json.dumps(state)), **arrays)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror or error}. Go on with `tfpes train --resume "
                f"{self.path.parent}`",
                self.path,
            ) from error

    def restore(self, saved: "Saved") -> None:
        """Go on from a file; the model is that of the file, and compiled.

        Raises:
            ValueError: if the file holds something else.
        """
        try:
            self._restore(saved)
        except (ValueError, KeyError, TypeError) as error:
            raise saved.damaged(error) from error

    def _restore(self, saved: "Saved") -> None:
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        self.model.set_weights(saved.arrays("model"))
        self.model.normalization.load_own_variables(saved.named("normalization"))
        for variable, value in zip(
            optimizer.variables, saved.arrays("optimizer"), strict=True
        ):
            variable.assign(value)
        state = saved.state
        self.best.set_state({**state["best"], "weights": saved.arrays("best") or None})
        self.budget.set_state(state["budget"])
        self.epoch, self.trained = state["epoch"], state["trained"]
        self.history, self.report = state["history"], state["report"]


class Saved:
    """What is in a file of :class:`Checkpoint`.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is damaged, or newer than this version.
    """

    def __init__(self, path: pathlib.Path) -> None:
        """Read the file."""
        self.path = path
        try:
            # NumPy leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                self._arrays = {name: stored[name] for name in stored.files}
            self.state = json.loads(str(self._arrays.pop("state")))
            version = int(self.state["format_version"])
        except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self.damaged(error) from error
        if version > _FORMAT_VERSION:
            raise ValueError(
                f"This version reads checkpoints up to format {_FORMAT_VERSION}. "
                f"Received: '{path}' of format {version}. Update tfpes."
            )
        if missing := sorted(_KEYS - self.state.keys()):
            raise self.damaged(f"no {', '.join(missing)}")

    def damaged(self, reason: object) -> ValueError:
        """Return the error for a file that holds something else."""
        return ValueError(
            f"A checkpoint must be complete. Received: '{self.path}', which is damaged "
            f"({reason}). Delete it to start the run again from its first epoch."
        )

    def named(self, group: str) -> dict[str, NDArray]:
        """Return the arrays of a group by name."""
        return {
            name.removeprefix(f"{group}/"): array
            for name, array in self._arrays.items()
            if name.startswith(f"{group}/")
        }

    def arrays(self, group: str) -> list[NDArray]:
        """Return the arrays of the model, the optimizer or the best model."""
        return [array for _, array in sorted(self.named(group).items())]

    def model(self) -> keras.Model:
        """Return the model, built but not compiled."""
        try:
            model = keras.saving.deserialize_keras_object(self.state["model"])
        except Exception as error:
            # Unknown classes and options each fail in their own way.
            raise self.damaged(error) from error
        if not isinstance(model, keras.Model):
            raise self.damaged("no model")
        return model
