"""Element-wise metrics of standardized labels and predictions."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Metric = Callable[[Any, Any], Any]
"""An element-wise function of (standardized_true, standardized_pred)."""


def squared(true: Any, pred: Any) -> Any:
    """``(p - t)²``."""
    return tf.math.squared_difference(pred, true)


def absolute(true: Any, pred: Any) -> Any:
    """``|p - t|``."""
    return tf.abs(pred - true)


def huber(delta: float) -> Metric:
    """``e²/2`` for ``|e| = |p - t| <= δ``, else ``δ (|e| - δ/2)``.

    The parameter δ counts standard deviations of the labels.
    """

    def error(true: Any, pred: Any) -> Any:
        size = tf.abs(pred - true)
        inner = tf.minimum(size, delta)
        return inner * (size - 0.5 * inner)

    return error


NAMES = ("mse", "mae", "huber")


def resolve(metric: str | Metric, delta: float) -> Metric:
    """Return the function that a metric names.

    Args:
        metric: ``"mse"``, ``"mae"``, ``"huber"`` or a function.
        delta: of ``"huber"``, in standard deviations.

    Returns:
        The element-wise function.

    Raises:
        ValueError: for an unknown name or a δ that is not positive.
    """
    if callable(metric):
        return metric
    if not delta > 0:
        raise ValueError(
            f"`delta` must be positive (standard deviations). Received: {delta}."
        )
    functions = {"mse": squared, "mae": absolute, "huber": huber(delta)}
    if metric not in functions:
        raise ValueError(
            f"`metric` must be one of {NAMES} or a function of (standardized_true, "
            f"standardized_pred). Received: {metric!r}."
        )
    return functions[metric]
