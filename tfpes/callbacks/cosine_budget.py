"""Training for a given number of epochs or minutes."""

import math
import time
from typing import Any

import keras
import tensorflow as tf

# The longest warm-up, of the budget.
_WARMUP = 0.05


@keras.saving.register_keras_serializable(package="tfpes", name="CosineBudgetSchedule")
class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate as a function of the step, in the graph.

    What the host knows, it tells by variables: nothing is traced again.

    Args:
        learning_rate: lr_0.
        final_fraction: lr_final / lr_0.
        warmup_steps: length of the warm-up.
        start: step at which the budget begins.
        progress: p at the start.
        per_step: growth of p with each step.
    """

    def __init__(
        self,
        learning_rate: float,
        final_fraction: float,
        warmup_steps: int,
        start: int = 0,
        progress: float = 0.0,
        per_step: float = 0.0,
    ) -> None:
        self._settings = {
            "learning_rate": learning_rate,
            "final_fraction": final_fraction,
            "warmup_steps": warmup_steps,
        }
        self.start = tf.Variable(start, trainable=False, dtype=tf.int64)
        self.progress = tf.Variable(progress, trainable=False, dtype=tf.float32)
        self.per_step = tf.Variable(per_step, trainable=False, dtype=tf.float32)
        self.was_read = False

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the learning rate of a step of the optimizer."""
        self.was_read = True
        return self.rate(step)

    def rate(self, step: Any) -> tf.Tensor:
        """Return the same, without having been read."""
        used = tf.cast(tf.cast(step, tf.int64) - self.start, tf.float32)
        progress = tf.minimum(self.progress + used * self.per_step, 1.0)
        last = self._settings["final_fraction"]
        fraction = last + (1.0 - last) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        warm = tf.maximum(
            (used + 1.0) / (self._settings["warmup_steps"] + 1), progress / _WARMUP
        )
        return self._settings["learning_rate"] * fraction * tf.minimum(warm, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return what the schedule is made of, as it stands."""
        return self._settings | {
            "start": int(self.start),
            "progress": float(self.progress),
            "per_step": float(self.per_step),
        }


class CosineBudget(keras.callbacks.Callback):
    """Lowers the learning rate along a cosine until epochs or minutes are used up.

        lr = lr_final + (lr_0 - lr_final) (1 + cos(π p)) / 2,   p = used / budget,

    after a linear warm-up, and stops at p = 1. A budget of time gives the best model
    for it on any machine, a budget of epochs the same model in each run. The time
    begins after the first step (or execution), which is compiled.

    An optimizer that is made with ``budget.schedule`` computes the learning rate in the
    graph, from the number of the step, whatever ``steps_per_execution`` is. (A budget
    of minutes looks at the clock once per execution.) With any other, the callback sets
    the learning rate before each step, of which an execution must then be one.

    Args:
        learning_rate: lr_0.
        epochs: the budget, or
        minutes: the budget.
        final_fraction: lr_final / lr_0.
        warmup_steps: length of the warm-up, which is at most 5 % of the budget.

    Raises:
        ValueError: unless exactly one budget is given, and positive.
        RuntimeError: in ``fit``, if the optimizer has a schedule of somebody else, or
            an execution has several steps and the optimizer not this schedule.

    Example:
        >>> budget = CosineBudget(1e-3, epochs=100)
        >>> optimizer = keras.optimizers.Adam(budget.schedule)
        >>> # model.compile(optimizer, ..., steps_per_execution=8)
        >>> # model.fit(..., epochs=100, callbacks=[budget])

    Reference:
        Loshchilov and Hutter, SGDR, ICLR 2017 (one cycle).
    """

    def __init__(
        self,
        learning_rate: float,
        epochs: float | None = None,
        minutes: float | None = None,
        final_fraction: float = 0.01,
        warmup_steps: int = 50,
    ) -> None:
        """Check the budget."""
        super().__init__()
        if (epochs is None) == (minutes is None) or not (epochs or minutes or 0) > 0:
            raise ValueError(
                "A budget is a positive number of either `epochs` or `minutes`. "
                f"Received: epochs={epochs}, minutes={minutes}."
            )
        self.epochs = epochs
        self.minutes = minutes
        self._schedule = _Schedule(learning_rate, final_fraction, warmup_steps)
        self._sets_rate = False
        self._start: float | None = None
        # Steps of the whole budget that were made; those before this epoch.
        self._step = self._step_of_epoch = 0
        self._seconds_before = 0.0
        self._steps_per_epoch: int | None = None

    @property
    def schedule(self) -> keras.optimizers.schedules.LearningRateSchedule:
        """The learning rate, for the optimizer."""
        return self._schedule

    @property
    def progress(self) -> float:
        """How much of the budget is used, from 0 on."""
        if self.minutes is not None:
            return self._seconds() / (60.0 * self.minutes)
        return self._step * self._per_step()

    def _seconds(self) -> float:
        running = 0.0 if self._start is None else time.monotonic() - self._start
        return self._seconds_before + running

    def _per_step(self) -> float:
        if self.minutes is not None or self._steps_per_epoch is None:
            return 0.0
        return 1.0 / ((self.epochs or math.inf) * self._steps_per_epoch)

    def state(self) -> dict[str, float]:
        """Return the steps and seconds used, for :meth:`set_state`."""
        return {"step": self._step, "seconds": self._seconds()}

    def set_state(self, state: dict[str, float]) -> None:
        """Let the next ``fit`` go on from a :meth:`state`."""
        self._step, self._seconds_before = int(state["step"]), state["seconds"]
        self._start = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Begin, or go on; the clock stands still while the first step is compiled."""
        if self._start is not None:
            # Trained before, and not to go on from there.
            self._step, self._seconds_before = 0, 0.0
        self._start = None
        self._steps_per_epoch = self.params.get("steps")
        first = int(self.model.optimizer.iterations) - self._step
        self._schedule.start.assign(first)
        self._schedule.per_step.assign(self._per_step())
        self._sets_rate = self._set_rate()
        if self._sets_rate and self.model.steps_per_execution > 1:
            raise RuntimeError(
                "With several steps in one execution, the optimizer must compute the "
                "learning rate. Received: a model whose optimizer has a number. Pass "
                "the optimizer `CosineBudget.schedule` as its learning rate."
            )

    def _set_rate(self) -> bool:
        """Set the learning rate, and return whether it can be set."""
        optimizer = self.model.optimizer
        try:
            optimizer.learning_rate = float(self._schedule.rate(optimizer.iterations))
        except TypeError:  # Keras says so of a schedule.
            return False
        return True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Count on from the epochs before."""
        self._step_of_epoch = self._step

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Tell the time, and set the learning rate where the graph does not."""
        if self.minutes is not None:
            self._schedule.progress.assign(self.progress)
        if self._sets_rate:
            self._set_rate()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count, and stop at the end of the budget."""
        if not (self._sets_rate or self._schedule.was_read):
            raise RuntimeError(
                "The learning rate is that of `CosineBudget`. Received: an optimizer "
                "with another schedule. Pass it `CosineBudget.schedule`."
            )
        if self._start is None:
            self._start = time.monotonic()
        # The last of several steps in one execution may lie beyond the epoch.
        done = min(batch + 1, self._steps_per_epoch or batch + 1)
        self._step = self._step_of_epoch + done
        if self.progress >= 1.0:
            self.model.stop_training = True
