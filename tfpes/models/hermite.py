"""Quintic Hermite interpolation of tables of functions of one variable."""

from typing import Any

import tensorflow as tf


def hermite_weights(x: Any, intervals: int) -> tuple[Any, Any]:
    """Return where each x is on the grid 0, 1, ..., intervals, and its weights.

    On an interval, with t from 0 to 1, the interpolant is the polynomial of degree 5
    that has the value, the slope and the curvature of the table at both ends. It is
    continuous with both derivatives, and its error is at most ``max |f⁽⁶⁾| / 46080``,
    all in units of the grid step.

    Args:
        x: (P,) positions; those beyond the grid are taken for its last point.
        intervals: number of intervals.

    Returns:
        The index of the left end (P,) and the weights of value, slope and curvature
        at the left end and then at the right end, (P, 6).
    """
    x = tf.minimum(x, float(intervals))
    # NaN is no integer: it must not lead out of the table.
    index = tf.clip_by_value(tf.cast(x, tf.int32), 0, intervals - 1)
    t = (x - tf.cast(index, x.dtype))[:, None]

    def at_the_left(t: Any, sign: float) -> list[Any]:
        t3 = t**3
        return [
            1.0 - t3 * (10.0 - t * (15.0 - 6.0 * t)),
            sign * (t - t3 * (6.0 - t * (8.0 - 3.0 * t))),
            0.5 * (t**2 - t3 * (3.0 - t * (3.0 - t))),
        ]

    # The mirror image at the right end, where slopes change sign.
    weights = [*at_the_left(t, 1.0), *at_the_left(1.0 - t, -1.0)]
    return index, tf.concat(weights, axis=1)


def interpolate(table: Any, index: Any, weights: Any) -> Any:
    """Interpolate a table at the places that :func:`hermite_weights` returned.

    Args:
        table: (3, K + 1, C) values, slopes and curvatures on the grid.
        index: (P,).
        weights: (P, 6).

    Returns:
        (P, C).
    """
    # One row for each interval, so that one gather gets all that an edge needs.
    rows = tf.transpose(tf.concat([table[:, :-1], table[:, 1:]], axis=0), (1, 0, 2))
    return tf.einsum("pk,pkc->pc", weights, tf.gather(rows, index))
