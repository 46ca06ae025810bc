"""What is not there, and the weight of each row."""

import tensorflow as tf

from tfpes.targets.dense import Tensor, array_or_tensor
from tfpes.targets.packing import KEYS, split_atom_target

_EXPECTED = {
    1: "energies (S,) or (S, 1)",
    2: "forces (A, 3) or (A, 3, 1)",
    3: "virials (S, 3, 3) or (S, 3, 3, 1)",
}


def column(y_pred: Tensor, labels: Tensor) -> Tensor:
    """Drop a last dimension of 1, and insist on the shape of the labels.

    Args:
        y_pred: (S,), (A, 3) or (S, 3, 3), or that and a last 1.
        labels: a tensor, or a ``tf.TensorSpec`` of its shape.

    Raises:
        ValueError: for any other shape.
    """
    pred = tf.convert_to_tensor(y_pred)
    shape = pred.shape
    if shape.rank == labels.shape.rank + 1 and shape[-1] == 1:
        pred = tf.squeeze(pred, axis=-1)
    if not labels.shape.is_compatible_with(pred.shape):
        raise ValueError(
            f"Predictions must be {_EXPECTED[labels.shape.rank]}, for labels of shape "
            f"{labels.shape}. Received: {shape}. Nothing is broadcast; check the model."
        )
    return pred


def labelled(labels: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leave out what is not there: labels that are NaN, rows that Keras masks.

    Args:
        labels: (S,), (A, 3) or (S, 3, 3); NaN where there is no label.
        y_pred: in their shape or that and a last 1. Rows out of its Keras mask count
            as rows without labels.

    Returns:
        Labels and predictions in the finer of their types, both 0 where there is no
        label, and where there is one; all in the shape of the labels.

    Raises:
        ValueError: for shapes that do not fit.
    """
    labels = tf.convert_to_tensor(labels)
    pred = column(y_pred, labels)
    present = tf.math.is_finite(labels)
    mask = getattr(y_pred, "_keras_mask", None)
    if mask is not None:
        mask, rows = tf.cast(_flat(mask), tf.bool), labels.shape[:1]
        if not mask.shape.is_compatible_with(rows):
            raise ValueError(
                "A Keras mask on predictions must have one entry for each row, "
                f"{tuple(rows)}. Received: shape {tuple(mask.shape)}. End it in the "
                "model, or mark what is not there by labels that are NaN."
            )
        present &= tf.reshape(mask, [-1] + [1] * (labels.shape.rank - 1))
    # The label is replaced before any arithmetic: 0 × NaN is NaN, in gradients too.
    dtype = tf.as_dtype(pred.dtype if pred.dtype.size > 4 else labels.dtype)
    true = tf.cast(tf.where(present, labels, 0.0), dtype)
    return true, tf.where(present, tf.cast(pred, dtype), 0.0), present


def row_weights(
    sample_weight: Tensor, target: Tensor, or_structures: bool = False
) -> Tensor:
    """Return one weight for each row of a target, (rows,).

    Args:
        sample_weight: (rows,) or (rows, 1), or one number for all.
        target: as packed above.
        or_structures: whether atoms may take the weights (S,) of their structures.

    Raises:
        ValueError: for weights of another shape.
    """
    weight = _flat(sample_weight)
    target, shape, _ = array_or_tensor(target)
    if weight.shape.rank == 0:
        return tf.fill(tf.shape(target)[:1], weight)
    key = KEYS[shape[-1]]
    or_structures &= key == "forces"
    if or_structures and weight.shape.rank == 1:
        # Whose weights they are may show only when the graph runs.
        index = split_atom_target(target)[2]
        per_atom = tf.size(weight) == tf.size(index)
        return tf.gather(weight, tf.where(per_atom, tf.range(tf.size(index)), index))
    if not weight.shape.is_compatible_with(shape[:1]):
        what = "atom" if key == "forces" else "structure"
        raise ValueError(
            f"`sample_weight` of the key '{key}' must be {tuple(shape[:1])}, one for "
            f"each {what}{', or for each structure' * or_structures}. Received: shape "
            f"{tuple(weight.shape)}."
        )
    return weight


def _flat(column: Tensor) -> Tensor:
    """Return (rows,) or (rows, 1) as (rows,)."""
    column = tf.convert_to_tensor(column)
    return tf.squeeze(column, -1) if column.shape[1:] == (1,) else column
