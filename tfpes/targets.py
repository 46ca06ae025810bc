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

A label that is NaN is not there. Only this module knows the layout.
"""

import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from tfpes.elements import NUMBER_OF_COLUMNS

Tensor = Any
"""A ``tf.Tensor`` or anything that TensorFlow converts to one."""


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
    is_atom = tf.cast(is_element, tf.float64)
    # One segment for each (structure, element): an (A, 119) one-hot never exists.
    segments = structure_index * NUMBER_OF_COLUMNS + atomic_numbers
    counts = tf.math.unsorted_segment_sum(
        is_atom, segments, num_structures * NUMBER_OF_COLUMNS
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
    values = tf.cast(values, tf.float64)
    composition = tf.cast(composition, tf.float64)
    if values.shape.rank not in (1, 3):
        raise ValueError(
            "Labels of structures are energies (S,) or virials (S, 3, 3). Received: "
            f"shape {values.shape}."
        )
    width = 1 if values.shape.rank == 1 else 9
    values = tf.reshape(values, (-1, width))
    return tf.concat([values, composition], axis=1)


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
    return tf.concat(
        [
            tf.cast(values, tf.float32),
            tf.cast(atomic_numbers, tf.float32)[:, None],
            tf.cast(structure_index, tf.float32)[:, None],
        ],
        axis=1,
    )


def split_structure_target(target: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`structure_target`.

    Args:
        target: (S, 1 + 119) or (S, 9 + 119).

    Returns:
        The values, (S,) or (S, 3, 3), and the composition (S, 119).

    Raises:
        ValueError: for any other shape.
    """
    widths = (1 + NUMBER_OF_COLUMNS, 9 + NUMBER_OF_COLUMNS)
    target, shape, rank = _array_or_tensor(target)
    if rank != 2 or shape[1] not in widths:
        raise ValueError(
            "A target per structure has the shape (S, 120) for energies or (S, 128) "
            f"for virials: the values, then the composition. Received: {shape}. "
            "Pack labels with `tfpes.targets.structure_target(values, composition)`."
        )
    values = target[:, :-NUMBER_OF_COLUMNS]
    shape = (-1,) if values.shape[1] == 1 else (-1, 3, 3)
    reshape = np.reshape if isinstance(target, np.ndarray) else tf.reshape
    return reshape(values, shape), target[:, -NUMBER_OF_COLUMNS:]


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
    if isinstance(target, np.ndarray):
        number, index = target[:, 3].astype(np.int32), target[:, 4].astype(np.int32)
        return target[:, :3], number, index
    return (
        target[:, :3],
        tf.cast(target[:, 3], tf.int32),
        tf.cast(target[:, 4], tf.int32),
    )


def _warn_of_rounding(values: Any) -> None:
    dtype = getattr(values, "dtype", None)
    if dtype != np.float32 or not tf.executing_eagerly():
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


def _array_or_tensor(target: Any) -> tuple[Any, Any, int | None]:
    """Return a target with its shape and rank (None: unknown)."""
    # An array stays one: a tensor for each of its columns would slow `adapt` down.
    if isinstance(target, np.ndarray):
        return target, target.shape, target.ndim
    target = tf.convert_to_tensor(target)
    return target, target.shape, target.shape.rank
