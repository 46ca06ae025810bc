"""Dense batches: (B, N, …) arrays with Z = 0 for padding, a structure a row.

They end at the door: what takes a target calls :func:`flat`, and knows atoms only as
rows, (A, …) with A = B·N.
"""

from typing import Any

import numpy as np
import tensorflow as tf

Tensor = Any
"""A ``tf.Tensor`` or anything that TensorFlow converts to one."""


def array_or_tensor(target: Tensor) -> tuple[Tensor, Any, int | None]:
    """Return a target, its shape and its rank; an array stays one.

    Tensors, and their shapes, would slow `adapt` down.
    """
    if isinstance(target, np.ndarray):
        return target, target.shape, target.ndim
    target = tf.convert_to_tensor(target)
    return target, target.shape, target.shape.rank


def is_dense(shape: Any, rank: int | None) -> bool:
    """Whether this is the shape of a dense target per atom, (B, N, 3 + 1)."""
    return rank == 3 and shape[-1] == 4


def row_index(atoms: Tensor) -> Tensor:
    """Return the row of each entry of (B, N, …), (B·N,) int32."""
    rows, columns = tf.shape(atoms)[0], tf.shape(atoms)[1]
    return tf.reshape(tf.repeat(tf.range(rows)[:, None], columns, axis=1), [-1])


def flat(
    y_true: Tensor, y_pred: Tensor | None = None, sample_weight: Tensor | None = None
) -> tuple[Tensor, Any, Any]:
    """Return a target, predictions and weights with atoms as rows.

    Args:
        y_true: a target. One that is not dense comes back with the others as they are.
        y_pred: (B, N, 3) or (B, N, 3, 1); its Keras mask (B, N).
        sample_weight: (B, N) or (B,), or that and a last 1, or one number.

    Returns:
        (B·N, 5) with the row as the structure index, (B·N, 3[, 1]), (B·N,).

    Raises:
        ValueError: for shapes that do not fit.
    """
    y_true, shape, rank = array_or_tensor(y_true)
    if not is_dense(shape, rank):
        return y_true, y_pred, sample_weight
    if y_pred is not None:
        y_pred = _flat_predictions(y_pred, shape[:2])
    if sample_weight is not None:
        sample_weight = _flat_weights(sample_weight, y_true)
    if isinstance(y_true, np.ndarray):
        index = np.repeat(np.arange(shape[0], dtype=y_true.dtype), shape[1])
        return np.c_[y_true.reshape(-1, 4), index], y_pred, sample_weight
    index = tf.cast(row_index(y_true), y_true.dtype)
    y_true = tf.concat([tf.reshape(y_true, (-1, 4)), index[:, None]], axis=1)
    return y_true, y_pred, sample_weight


def unflat(rows: Tensor, y_true: Tensor) -> Tensor:
    """Return (A, …) as the dense target has its atoms, (B, N, …)."""
    y_true, shape, rank = array_or_tensor(y_true)
    if not is_dense(shape, rank):
        return rows
    return tf.reshape(rows, tf.concat([tf.shape(y_true)[:2], tf.shape(rows)[1:]], 0))


def _flat_predictions(y_pred: Tensor, atoms: Any) -> Tensor:
    pred = tf.convert_to_tensor(y_pred)
    if pred.shape.rank not in (3, 4) or not pred.shape[:2].is_compatible_with(atoms):
        raise ValueError(
            "Predictions must be forces (B, N, 3) or (B, N, 3, 1), for labels of shape "
            f"{(*atoms, 3)}. Received: {pred.shape}. Nothing is broadcast; check the "
            "model."
        )
    mask = getattr(y_pred, "_keras_mask", None)
    pred = tf.reshape(pred, (-1, *pred.shape[2:]))
    if mask is not None:
        pred._keras_mask = tf.reshape(mask, [-1])
    return pred


def _flat_weights(sample_weight: Tensor, y_true: Tensor) -> Tensor:
    weight = tf.convert_to_tensor(sample_weight)
    rows, atoms = y_true.shape[:1], y_true.shape[:2]
    if weight.shape.rank and weight.shape[-1] == 1 and weight.shape.rank > 1:
        weight = tf.squeeze(weight, -1)
    if weight.shape.rank == 0:
        return weight
    if weight.shape.rank == 1 and weight.shape.is_compatible_with(rows):
        return tf.gather(weight, row_index(y_true))
    if not weight.shape.is_compatible_with(atoms):
        raise ValueError(
            "`sample_weight` of the key 'forces' must be (B, N), one for each atom, or "
            f"(B,), one for each structure; here {tuple(atoms)}. Received: shape "
            f"{tuple(weight.shape)}."
        )
    return tf.reshape(weight, [-1])
