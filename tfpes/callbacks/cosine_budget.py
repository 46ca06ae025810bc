"""Training for a given number of epochs or minutes."""

import math
import time

import keras


class CosineBudget(keras.callbacks.Callback):
    """Lowers the learning rate along a cosine until epochs or minutes are used up.

        lr = lr_final + (lr_0 - lr_final) (1 + cos(π p)) / 2,   p = used / budget,

    after a linear warm-up, and stops at p = 1. A budget of time gives the best model
    for it on any machine, a budget of epochs the same model in each run.

    Args:
        learning_rate: lr_0.
        epochs: the budget, or
        minutes: the budget.
        final_fraction: lr_final / lr_0.
        warmup_steps: length of the warm-up.

    Raises:
        ValueError: unless exactly one budget is given, and positive.

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
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.minutes = minutes
        self.final_fraction = final_fraction
        self.warmup_steps = warmup_steps
        self._start: float | None = None
        self._step = 0
        self._seconds_before = 0.0
        self._steps_per_epoch: int | None = None

    @property
    def progress(self) -> float:
        """How much of the budget is used, from 0 on."""
        if self.minutes is not None:
            return self._seconds() / (60.0 * self.minutes)
        steps_per_epoch = self._steps_per_epoch or math.inf
        return self._step / ((self.epochs or math.inf) * steps_per_epoch)

    def _seconds(self) -> float:
        running = 0.0 if self._start is None else time.monotonic() - self._start
        return self._seconds_before + running

    def state(self) -> dict[str, float]:
        """Return the steps and seconds used, for :meth:`set_state`."""
        return {"step": self._step, "seconds": self._seconds()}

    def set_state(self, state: dict[str, float]) -> None:
        """Let the next ``fit`` go on from a :meth:`state`."""
        self._step, self._seconds_before = int(state["step"]), state["seconds"]
        self._start = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        if self._start is not None:
            # Trained before, and not to go on from there.
            self._step, self._seconds_before = 0, 0.0
        self._start = time.monotonic()
        self._steps_per_epoch = self.params.get("steps")

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the learning rate."""
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(self.progress, 1.0)))
        fraction = self.final_fraction + (1.0 - self.final_fraction) * cosine
        fraction *= min((self._step + 1) / (self.warmup_steps + 1), 1.0)
        self.model.optimizer.learning_rate = self.learning_rate * fraction

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count, and stop at the end of the budget."""
        self._step += 1
        if self.progress >= 1.0:
            self.model.stop_training = True
