"""Metrics of standardized labels and predictions."""

import functools
from collections.abc import Callable
from typing import Literal, get_args

import tensorflow as tf

from tfpes.targets import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]
"""An element-wise function of (standardized_true, standardized_pred)."""


def _huber(true: Tensor, pred: Tensor, delta: float) -> Tensor:
    """``e²/2`` for ``|e| = |p - t| <= δ``, else ``δ (|e| - δ/2)``."""
    size = tf.abs(pred - true)
    inner = tf.minimum(size, delta)
    return inner * (size - 0.5 * inner)


def _log_cosh(true: Tensor, pred: Tensor) -> Tensor:
    """``ln cosh e`` with ``e = p - t``: ``e²/2`` if small, ``|e| - ln 2`` if large."""
    size = tf.abs(pred - true)
    # Beyond 20 the slope is 1 to the last digit, and cosh would overflow.
    inner = tf.minimum(size, 20.0)
    # cosh x = 1 + 2 sinh²(x/2): no cancellation where x is small.
    return tf.math.log1p(2.0 * tf.sinh(0.5 * inner) ** 2) + (size - inner)


def _l2(true: Tensor, pred: Tensor) -> Tensor:
    """``‖p - t‖`` over the last axis, which is kept with length 1.

    Rotations do not change it. Its gradient at 0 is 0.
    """
    square = tf.reduce_sum(tf.math.squared_difference(pred, true), -1, keepdims=True)
    # The gradient of a root at 0 is infinite, and 0 × inf is NaN.
    zero = square == 0
    return tf.where(zero, square, tf.sqrt(tf.where(zero, tf.ones_like(square), square)))


Name = Literal["mse", "mae", "huber", "log_cosh"]
"""Of a metric for energies as well as for vectors."""
_NAMES = get_args(Name)


def resolve(metric: str | Metric, delta: float, vectors: bool = False) -> Metric:
    """Return the function that a metric names.

    Args:
        metric: ``"mse"``, ``"mae"``, ``"huber"``, ``"log_cosh"``, for vectors also
            ``"l2"``, or a function.
        delta: of ``"huber"``, in standard deviations.
        vectors: whether labels are vectors.

    Returns:
        The function.

    Raises:
        ValueError: for an unknown name or a δ that is not positive.
    """
    if callable(metric):
        return metric
    if not delta > 0:
        raise ValueError(
            f"`delta` must be positive (standard deviations). Received: {delta}."
        )
    functions = {
        "mse": tf.math.squared_difference,
        "mae": lambda true, pred: tf.abs(pred - true),
        "huber": functools.partial(_huber, delta=delta),
        "log_cosh": _log_cosh,
        "l2": _l2,
    }
    names = (*_NAMES, "l2") if vectors else _NAMES
    if metric not in names:
        hint = " Of single numbers, 'l2' is 'mae'." if metric == "l2" else ""
        raise ValueError(
            f"`metric` must be one of {names} or a function of (standardized_true, "
            f"standardized_pred). Received: {metric!r}.{hint}"
        )
    return functions[metric]
