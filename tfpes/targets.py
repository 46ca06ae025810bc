"""The wire format of labels.

Keras hands a loss only ``y_true[key]`` and ``y_pred[key]``. A target therefore
carries what its loss must know about its atoms in extra columns of one tensor:

========  ====================  ==========================================
key       tensor                columns
========  ====================  ==========================================
energy    (S, 1 + 119) float64  energy, then composition
virial    (S, 9 + 119) float64  row-major virial, then composition
forces    (A, 3 + 2) float32    Fx Fy Fz, atomic number, structure index
========  ====================  ==========================================

A label that is NaN is not there. Only this module knows the layout and this rule.
"""

import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from tfpes.elements import NUMBER_OF_COLUMNS

Tensor = Any
"""A ``tf.Tensor`` or anything that TensorFlow converts to one."""

_KEYS = {1 + NUMBER_OF_COLUMNS: "energy", 9 + NUMBER_OF_COLUMNS: "virial", 5: "forces"}
_EXPECTED = {
    1: "energies (S,) or (S, 1)",
    2: "forces (A, 3) or (A, 3, 1)",
    3: "virials (S, 3, 3) or (S, 3, 3, 1)",
}


def composition(
    atomic_numbers: Tensor, structure_index: Tensor, num_structures: int | Tensor
) -> Tensor:
    """Count the atoms of each element in each structure.

    ``composition[s, z] = sum_i [structure_index_i = s] [atomic_numbers_i = z]``;
    column 0 (padding) is always 0.

    Args:
        atomic_numbers: (A,) int, 0 for padding.
        structure_index: (A,) int, the structure of each atom.
        num_structures: the number S of structures.

    Returns:
        (S, 119) float64, indexed by atomic number.

    Raises:
        ValueError: for numbers that are no element (eagerly; a graph skips them).

    Example:
        >>> water = composition([8, 1, 1], [0, 0, 0], 1)
        >>> int(water[0, 1]), int(water[0, 8])
        (2, 1)
    """
    atomic_numbers = tf.cast(atomic_numbers, tf.int32)
    structure_index = tf.cast(structure_index, tf.int32)
    is_element = (atomic_numbers > 0) & (atomic_numbers < NUMBER_OF_COLUMNS)
    if tf.executing_eagerly():
        wrong = atomic_numbers[(atomic_numbers != 0) & ~is_element]
        if len(wrong):
            raise ValueError(
                "Atomic numbers are 1 to 118, or 0 for padding. Received: "
                f"{int(wrong[0])}."
            )
    # One segment for each (structure, element): an (A, 119) one-hot never exists.
    segments = structure_index * NUMBER_OF_COLUMNS + atomic_numbers
    counts = tf.math.unsorted_segment_sum(
        tf.cast(is_element, tf.float64), segments, num_structures * NUMBER_OF_COLUMNS
    )
    return tf.reshape(counts, (num_structures, NUMBER_OF_COLUMNS))


def structure_target(values: Tensor, composition: Tensor) -> Tensor:
    """Pack a label per structure with the composition of its structure.

    Args:
        values: (S,) energies in eV, or (S, 3, 3) virials in eV; NaN where missing.
        composition: (S, 119), see :func:`composition`.

    Returns:
        (S, 1 + 119) or (S, 9 + 119) float64.

    Raises:
        ValueError: for labels of another shape.

    Warns:
        UserWarning: for energies in float32 that it rounds by more than 1 meV (eagerly;
            a graph does not know the numbers).

    Example:
        >>> water = composition([8, 1, 1], [0, 0, 0], 1)
        >>> structure_target([-14.2], water).shape
        TensorShape([1, 120])
    """
    _warn_of_rounding(values)
    # TensorFlow alone would round Python's numbers to float32.
    values = tf.convert_to_tensor(values, dtype_hint=tf.float64)
    if values.shape.rank not in (1, 3):
        raise ValueError(
            "Labels of structures are energies (S,) or virials (S, 3, 3). Received: "
            f"shape {values.shape}."
        )
    values = tf.reshape(values, (-1, 1 if values.shape.rank == 1 else 9))
    return tf.concat([tf.cast(x, tf.float64) for x in (values, composition)], axis=1)


def atom_target(
    values: Tensor, atomic_numbers: Tensor, structure_index: Tensor
) -> Tensor:
    """Pack a vector label per atom with its element and structure.

    Args:
        values: (A, 3) forces in eV/Å; NaN where missing.
        atomic_numbers: (A,) int, 0 for padding.
        structure_index: (A,) int.

    Returns:
        (A, 3 + 2) float32.
    """
    context = [tf.cast(x, tf.float32) for x in (atomic_numbers, structure_index)]
    return tf.concat([tf.cast(values, tf.float32), tf.stack(context, axis=1)], axis=1)


def split_structure_target(
    target: Tensor, key: str | None = None
) -> tuple[Tensor, Tensor]:
    """Undo :func:`structure_target`.

    Args:
        target: (S, 1 + 119) or (S, 9 + 119).
        key: ``"energy"`` or ``"virial"``, to insist on one of the two.

    Returns:
        The values, (S,) or (S, 3, 3), and the composition (S, 119).

    Raises:
        ValueError: for any other shape.
    """
    target, shape, rank = _array_or_tensor(target)
    found = _KEYS.get(shape[1]) if rank == 2 else None
    if found not in ("energy", "virial"):
        raise ValueError(
            "A target per structure has the shape (S, 120) for energies or (S, 128) "
            f"for virials: the values, then the composition. Received: {shape}. "
            "Pack labels with `tfpes.targets.structure_target(values, composition)`."
        )
    if key not in (None, found):
        raise ValueError(
            f"The target of the key '{key}' is `structure_target({key}, composition)`. "
            f"Received: shape {shape}, that of the key '{found}'. Check the keys of "
            "losses and metrics."
        )
    reshape = np.reshape if isinstance(target, np.ndarray) else tf.reshape
    values, counts = target[:, :-NUMBER_OF_COLUMNS], target[:, -NUMBER_OF_COLUMNS:]
    return reshape(values, (-1,) if found == "energy" else (-1, 3, 3)), counts


def split_atom_target(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Undo :func:`atom_target`.

    Args:
        target: (A, 3 + 2).

    Returns:
        The values (A, 3), the atomic numbers (A,) int32, the structure index
        (A,) int32.

    Raises:
        ValueError: for any other shape.
    """
    target, shape, rank = _array_or_tensor(target)
    if rank != 2 or shape[1] != 5:
        raise ValueError(
            "A target per atom has the shape (A, 5): Fx, Fy, Fz, atomic number, "
            f"structure index. Received: {shape}. Pack labels with "
            "`tfpes.targets.atom_target(values, atomic_numbers, structure_index)`."
        )
    cast = np.asarray if isinstance(target, np.ndarray) else tf.cast
    return target[:, :3], cast(target[:, 3], np.int32), cast(target[:, 4], np.int32)


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
        sample_weight: (rows,) or (rows, 1).
        target: as packed above.
        or_structures: whether atoms may take the weights (S,) of their structures.

    Raises:
        ValueError: for weights of another shape.
    """
    weight = _flat(sample_weight)
    target, shape, _ = _array_or_tensor(target)
    key = _KEYS[shape[1]]
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


def _warn_of_rounding(values: Any) -> None:
    if getattr(values, "dtype", None) != np.float32 or not tf.executing_eagerly():
        return
    largest = np.max(np.abs(values), initial=0.0, where=np.isfinite(values))
    rounding = float(np.spacing(np.float32(largest))) / 2
    if rounding > 1e-3:
        warnings.warn(
            "Total energies are float64 from the file on. Received: float32 labels of "
            f"up to {largest:.6g} eV, which it rounds by up to {rounding:.2g} eV. Read "
            "and keep them in float64.",
            stacklevel=3,
        )


def _array_or_tensor(target: Tensor) -> tuple[Tensor, Any, int | None]:
    # An array stays one: tensors, and their shapes, would slow `adapt` down.
    if isinstance(target, np.ndarray):
        return target, target.shape, target.ndim
    target = tf.convert_to_tensor(target)
    return target, target.shape, target.shape.rank
