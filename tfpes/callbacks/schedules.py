"""Numbers that change with the epoch."""

from collections.abc import Callable, Mapping

Schedule = Callable[[int], float]
"""A function of the epoch, which counts from 0."""


def linear(start: float, end: float, epochs: int) -> Schedule:
    """Return a schedule that goes from one number to another in equal steps.

        w(e) = start + (end - start) min(e / epochs, 1)

    Args:
        start: w(0).
        end: w(epochs), and of all later epochs.
        epochs: that it takes.

    Raises:
        ValueError: unless ``epochs`` is positive.

    Example:
        >>> [linear(1.0, 5.0, epochs=4)(epoch) for epoch in (0, 1, 4, 9)]
        [1.0, 2.0, 5.0, 5.0]
    """
    _check_epochs(epochs)
    return lambda epoch: start + (end - start) * min(epoch / epochs, 1.0)


def exponential(start: float, end: float, epochs: int) -> Schedule:
    """Return a schedule that goes from one number to another by equal factors.

        w(e) = start (end / start)^min(e / epochs, 1)

    Args:
        start: w(0), positive.
        end: w(epochs), and of all later epochs, positive.
        epochs: that it takes.

    Raises:
        ValueError: unless all are positive.

    Example:
        >>> [round(exponential(1, 100, epochs=4)(epoch), 6) for epoch in (0, 2, 4, 9)]
        [1.0, 10.0, 100.0, 100.0]
    """
    _check_epochs(epochs)
    if not (start > 0 and end > 0):
        raise ValueError(
            "`exponential` goes from one positive number to another. Received: "
            f"start={start}, end={end}. Use `linear` or `step` for a weight of 0."
        )
    return lambda epoch: start * (end / start) ** min(epoch / epochs, 1.0)


def step(values: Mapping[int, float]) -> Schedule:
    """Return a schedule of constants that change at given epochs.

    Args:
        values: from the epoch at which it begins to the constant; one begins at 0.

    Raises:
        ValueError: if nothing is said of epoch 0.

    Example:
        >>> [step({0: 1.0, 10: 100.0})(epoch) for epoch in (0, 9, 10, 99)]
        [1.0, 1.0, 100.0, 100.0]
    """
    steps = dict(values)
    if 0 not in steps or min(steps) < 0:
        raise ValueError(
            "`step` takes the first epoch of each value, from epoch 0 on. Received: "
            f"{steps}. Add a value for epoch 0."
        )
    return lambda epoch: float(steps[max(e for e in steps if e <= epoch)])


def _check_epochs(epochs: int) -> None:
    if not epochs > 0:
        raise ValueError(f"`epochs` must be positive. Received: {epochs}.")
