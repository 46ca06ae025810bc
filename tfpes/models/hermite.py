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
_COEFFICIENTS = np.zeros((6, 6, 6))
"""Of their derivatives: order, polynomial, power of t from the highest down."""
for _order, _place in np.ndindex(6, 6):
    _powers = _BASIS[_place].deriv(_order).coef[::-1]
    _COEFFICIENTS[_order, _place, 6 - len(_powers) :] = _powers


def interpolate(tables: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Interpolate tables of several functions on the grid 0, 1, ..., K.

    On an interval, with t from 0 to 1, the interpolant is the polynomial of degree 5
    that has the value, the slope and the curvature of the table at both ends. It is
    continuous with both derivatives, and its error is at most ``max |f⁽⁶⁾| / 46080``,
    all in units of the grid step. Its derivatives of any order, by the table and by x,
    are exact: those by x are interpolated from the table, too.

    Args:
        tables: (3, K + 1, C) values, slopes and curvatures on the grid, each.
        x: (P,) positions; those beyond the grid are taken for its last point.

    Returns:
        (P, C), for each table.
    """
    intervals = tables[0].shape[1] - 1
    x = tf.minimum(x, float(intervals))
    fixed = tf.stop_gradient(x)
    # NaN is no integer: it must not lead out of the table.
    index = tf.clip_by_value(tf.cast(fixed, tf.int32), 0, intervals - 1)
    weights = _weights(fixed - tf.cast(index, x.dtype))
    results = []
    for table in tables:
        value, slope = _derivatives(table, index, weights[:2])
        # Only who differentiates twice by x needs the others; a graph leaves them out.
        *higher, result = _derivatives(table, index, weights[2:])
        for derivative in (*reversed(higher), slope, value):
            result = _with_slope(x, derivative, result)
        results.append(result)
    return results


def _weights(t: Tensor) -> list[Tensor]:
    """Return what the six rows of an interval count, by order, (6, P) each."""
    # Horner's rule for all polynomials at once, highest power first.
    result = tf.zeros((1, 1, 1), t.dtype)
    for coefficients in np.moveaxis(_COEFFICIENTS, -1, 0):
        result = result * t + tf.constant(coefficients[..., None], t.dtype)
    return tf.unstack(result)


def _derivatives(
    table: Tensor, index: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return derivatives of the interpolant by x, (P, C) each.

    The gradient is that by the table, which all of them share: one sum over places
    instead of one for each order. Differentiation by x is up to :func:`_with_slope`.
    """
    intervals = table.shape[1] - 1

    @tf.custom_gradient
    def evaluate(table: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        ends = [tf.gather(table, index + end, axis=1) for end in (0, 1)]
        rows = tf.concat(ends, axis=0)
        # Sums of products, not a matrix product: a compiler then keeps no row.
        values = tuple(tf.reduce_sum(w[:, :, None] * rows, axis=0) for w in weights)

        def gradient(*upstream: Tensor) -> Tensor:
            parts = [
                tf.transpose(w)[:, :, None] * g[:, None]
                for w, g in zip(weights, upstream, strict=True)
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
