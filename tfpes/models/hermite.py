"""Quintic Hermite interpolation of tables of functions of one variable."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.polynomial import Polynomial

from tfpes.targets import Tensor

# Of value, slope and curvature at the left end of an interval, and then at the right
# end, where 1 - t takes the place of t and slopes change sign.
_LEFT = (
    Polynomial([1, 0, 0, -10, 15, -6]),
    Polynomial([0, 1, 0, -6, 8, -3]),
    Polynomial([0, 0, 0.5, -1.5, 1.5, -0.5]),
)
_MIRROR = Polynomial([1, -1])
_BASIS = (*_LEFT, _LEFT[0](_MIRROR), -_LEFT[1](_MIRROR), _LEFT[2](_MIRROR))
"""The six polynomials of t from 0 to 1 that make up the interpolant."""


def interpolate(table: Tensor, x: Tensor) -> Tensor:
    """Interpolate a table of several functions on the grid 0, 1, ..., K.

    On an interval, with t from 0 to 1, the interpolant is the polynomial of degree 5
    that has the value, the slope and the curvature of the table at both ends. It is
    continuous with both derivatives, and its error is at most ``max |f⁽⁶⁾| / 46080``,
    all in units of the grid step. Its derivatives of any order, by the table and by x,
    are exact: those by x are interpolated from the table, too.

    Args:
        table: (3, K + 1, C) values, slopes and curvatures on the grid.
        x: (P,) positions; those beyond the grid are taken for its last point.

    Returns:
        (P, C).
    """
    x = tf.minimum(x, float(table.shape[1] - 1))
    value, slope = _derivatives(table, x, (0, 1))
    # Only who differentiates twice by x needs the others; a graph leaves them out.
    *higher, result = _derivatives(table, x, (2, 3, 4, 5))
    for derivative in (*reversed(higher), slope, value):
        result = _with_slope(x, derivative, result)
    return result


def _derivatives(table: Tensor, x: Tensor, orders: Sequence[int]) -> tuple[Tensor, ...]:
    """Return derivatives of the interpolant by x, (P, C) each.

    The gradient is that by the table, which all of them share: one sum over places
    instead of one for each order. Differentiation by x is up to :func:`_with_slope`.
    """
    intervals = table.shape[1] - 1
    x = tf.stop_gradient(x)
    # NaN is no integer: it must not lead out of the table.
    index = tf.clip_by_value(tf.cast(x, tf.int32), 0, intervals - 1)
    t = x - tf.cast(index, x.dtype)
    weights = [[_evaluate(p.deriv(order), t) for p in _BASIS] for order in orders]

    @tf.custom_gradient
    def evaluate(table: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        rows = [tf.gather(table[k], index + end) for end in (0, 1) for k in range(3)]
        # Sums of products, not a matrix product: a compiler then keeps no row.
        values = tuple(
            tf.add_n([w[:, None] * row for w, row in zip(each, rows, strict=True)])
            for each in weights
        )

        def gradient(*upstream: Tensor) -> Tensor:
            parts = [
                tf.stack(each, axis=1)[:, :, None] * g[:, None]
                for each, g in zip(weights, upstream, strict=True)
            ]
            ends = tf.math.unsorted_segment_sum(tf.add_n(parts), index, intervals)
            left, right = tf.split(tf.transpose(ends, (1, 0, 2)), 2)
            return tf.pad(left, [[0, 0], [0, 1], [0, 0]]) + tf.pad(
                right, [[0, 0], [1, 0], [0, 0]]
            )

        return values, gradient

    return evaluate(table)


def _with_slope(x: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Return values that have this slope by x, (P, C)."""

    @tf.custom_gradient
    def attach(x: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, None]:
            return tf.reduce_sum(upstream * slope, axis=-1), upstream, None

        return tf.identity(value), gradient

    return attach(x, value, slope)


def _evaluate(polynomial: Polynomial, t: Tensor) -> Tensor:
    """Evaluate a polynomial, as Horner did."""
    *lower, highest = np.asarray(polynomial.coef)
    result = tf.fill(tf.shape(t), tf.constant(highest, t.dtype))
    for coefficient in reversed(lower):
        result = result * t + tf.constant(coefficient, t.dtype)
    return result
