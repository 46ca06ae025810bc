"""Loss weights that change during training."""

import math
from typing import Any

import keras

from tfpes.callbacks.schedules import Schedule


class LossWeightSchedule(keras.callbacks.Callback):
    """Changes the loss weights at the beginning of each epoch.

        loss = Σ_key w_key(epoch) loss_key

    Nothing is compiled again: the weights are variables that the compiled step reads.
    The logs get a ``<key>_weight`` for each key, as it was in the epoch. Where a weight
    is a function of the epoch alone, a run that goes on at ``initial_epoch`` has the
    weights that it would have had. It may look at more, such as
    ``CosineBudget.progress`` of a callback that comes before:
    ``energy=lambda epoch: 0.01 * 1000**budget.progress``.

    The weights hold for validation, too: ``val_loss`` can then not be compared from
    epoch to epoch. :class:`BestModel`, *after* this callback in the list, compares
    epochs under the weights of the latest one. Other callbacks should monitor
    something without weights, such as ``val_energy_loss``.

    A saved model holds the weights of the last epoch as numbers. To go on with a
    schedule after loading, compile again with ``loss_weights=schedule.weights``.

    Args:
        **schedules: for each key of the outputs a constant or a function of the epoch
            (which counts from 0), such as :func:`linear`, :func:`exponential`,
            :func:`step` or a ``keras.optimizers.schedules.LearningRateSchedule``.

    Raises:
        TypeError: for something that is neither a number nor a function.
        ValueError: without any key; in ``fit``, for a weight that is not finite or
            negative.
        RuntimeError: in ``fit``, if the model was compiled without ``weights``.

    Example:
        >>> from tfpes.callbacks import step
        >>> schedule = LossWeightSchedule(energy=step({0: 1.0, 50: 100.0}), forces=1.0)
        >>> # model.compile(loss=..., loss_weights=schedule.weights)
        >>> # model.fit(..., callbacks=[schedule])
        >>> schedule(epoch=60)
        {'energy': 100.0, 'forces': 1.0}
    """

    def __init__(self, **schedules: float | Schedule) -> None:
        """Make the variables."""
        super().__init__()
        if not schedules:
            raise ValueError(
                "`LossWeightSchedule` needs a schedule for each output of the model. "
                "Received: none. Pass, for example, `energy=1.0, forces=1.0`."
            )
        for key, schedule in schedules.items():
            if not callable(schedule) and not isinstance(schedule, int | float):
                raise TypeError(
                    "A loss weight is a number or a function of the epoch. Received: "
                    f"{key}={schedule!r}. Pass, for example, "
                    "`step({0: 1.0, 50: 100.0})`."
                )
        self.schedules = schedules
        self._logs: dict[str, float] = {}
        self._variables = {key: _Weight(value) for key, value in self(epoch=0).items()}

    @property
    def weights(self) -> dict[str, Any]:
        """The variables, for ``model.compile(loss_weights=...)``."""
        return dict(self._variables)

    def __call__(self, epoch: int) -> dict[str, float]:
        """Return the weights of an epoch, which counts from 0."""
        values = {}
        for key, schedule in self.schedules.items():
            value = float(schedule(epoch) if callable(schedule) else schedule)
            if not 0 <= value < math.inf:
                raise ValueError(
                    "A loss weight must be finite and not negative. Received: "
                    f"{value} for '{key}' in epoch {epoch}."
                )
            values[key] = value
        return values

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Set the weights."""
        self._logs = {f"{key}_weight": value for key, value in self(epoch).items()}
        for key in self.schedules:
            self._variables[key].assign(self._logs[f"{key}_weight"])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Check that the step reads the weights."""
        idle = [key for key, weight in self._variables.items() if not weight.was_read]
        if idle:
            raise RuntimeError(
                "The model must be compiled with the weights of its "
                "`LossWeightSchedule`. Received: a model that does not read those of "
                f"{', '.join(idle)}. Pass `loss_weights=schedule.weights` to "
                "`compile`, and leave out keys without a loss."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Log the weights."""
        if logs is not None:
            logs.update(self._logs)


class _Weight(keras.Variable):
    """A variable that knows whether anything has read it."""

    def __init__(self, value: float) -> None:
        super().__init__(value, dtype="float32", trainable=False, autocast=False)
        self.was_read = False

    @property
    def value(self) -> Any:
        """The tensor; a compiled step asks for it once, when it is traced."""
        self.was_read = True
        return super().value
