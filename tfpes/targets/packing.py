"""Labels and their context in one tensor, and back."""

import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.targets.dense import Tensor, array_or_tensor, is_dense, row_index

KEYS = {2 + NUMBER_OF_COLUMNS: "energy", 9 + NUMBER_OF_COLUMNS: "virial", 5: "forces"}
"""By the width of their targets."""
_DIGITS = 2**29 - 1
"""The last bits of a float64, which are 0 after a cast to float32."""


def composition(
    atomic_numbers: Tensor,
    structure_index: Tensor | None = None,
    num_structures: Tensor = None,
) -> Tensor:
    """Count the atoms of each element in each structure.

    ``composition[s, z] = sum_i [structure_index_i = s] [atomic_numbers_i = z]``;
    column 0 (padding) is always 0.

    Args:
        atomic_numbers: (A,) int, 0 for padding; or dense, (B, N), a structure a row.
        structure_index: (A,) int, the structure of each atom; None if dense.
        num_structures: the number S of structures; None if dense.

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
    _check_layout(atomic_numbers, structure_index)
    if structure_index is None:
        num_structures = atomic_numbers.shape[0] or tf.shape(atomic_numbers)[0]
        structure_index = row_index(atomic_numbers)
        atomic_numbers = tf.reshape(atomic_numbers, [-1])
    elif num_structures is None:
        raise ValueError(
            "A `structure_index` needs `num_structures`, as the last structures may "
            "have no atoms. Received: None."
        )
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


def structure_target(
    values: Tensor, composition: Tensor, present: Tensor | None = None
) -> Tensor:
    """Pack a label per structure with the composition of its structure.

    Args:
        values: (S,) or (S, 1) energies in eV, or (S, 3, 3) virials in eV; NaN where
            missing. Without atoms there is no label.
        composition: (S, 119), see :func:`composition`.
        present: where labels are: flags, or weights that are not 0; one for each
            structure or number, or one for all.

    Returns:
        (S, 2 + 119) or (S, 9 + 119) float64.

    Raises:
        ValueError: for labels of another shape.

    Warns:
        UserWarning: for energies in float32 that it rounds by more than 1 meV (eagerly;
            a graph does not know the numbers).

    Example:
        >>> water = composition([8, 1, 1], [0, 0, 0], 1)
        >>> structure_target([-14.2], water).shape
        TensorShape([1, 121])
    """
    _warn_of_rounding(values)
    # TensorFlow alone would round Python's numbers to float32.
    values = tf.convert_to_tensor(values, dtype_hint=tf.float64)
    if values.shape.rank == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape.rank not in (1, 3):
        raise ValueError(
            "Labels of structures are energies (S,) or virials (S, 3, 3). Received: "
            f"shape {values.shape}."
        )
    composition = tf.cast(composition, tf.float64)
    values = _only(tf.cast(values, tf.float64), present)
    values = _only(values, tf.reduce_any(composition > 0, axis=-1))
    if values.shape.rank == 1:
        rounded = tf.cast(tf.cast(values, tf.float32), tf.float64)
        low = tf.where(tf.math.is_finite(rounded), values - rounded, 0.0)
        columns = tf.stack([values, low], axis=1)
    else:
        columns = tf.reshape(values, (-1, 9))
    return tf.concat([columns, composition], axis=1)


def atom_target(
    values: Tensor,
    atomic_numbers: Tensor,
    structure_index: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Pack a vector label per atom with its element and structure.

    Args:
        values: (A, 3) or (B, N, 3) forces in eV/Å; NaN where missing. Padding has no
            label.
        atomic_numbers: (A,) or (B, N) int, 0 for padding.
        structure_index: (A,) int; None if dense, where the structure is the row.
        present: as for :func:`structure_target`, one for each atom or number.

    Returns:
        (A, 3 + 2) float32, or dense (B, N, 3 + 1).

    Raises:
        ValueError: for shapes that do not fit.
    """
    atomic_numbers = tf.convert_to_tensor(atomic_numbers)
    _check_layout(atomic_numbers, structure_index)
    values = tf.cast(values, tf.float32)
    if not values.shape.is_compatible_with([*atomic_numbers.shape, 3]):
        raise ValueError(
            "Forces are (A, 3) for atomic numbers (A,), or (B, N, 3) for (B, N). "
            f"Received: {values.shape} for {atomic_numbers.shape}."
        )
    values = _only(_only(values, present), atomic_numbers)
    context = [x for x in (atomic_numbers, structure_index) if x is not None]
    columns = tf.stack([tf.cast(x, tf.float32) for x in context], axis=-1)
    return tf.concat([values, columns], axis=-1)


def split_structure_target(
    target: Tensor, key: str | None = None
) -> tuple[Tensor, Tensor]:
    """Undo :func:`structure_target`.

    Args:
        target: (S, 2 + 119) or (S, 9 + 119).
        key: ``"energy"`` or ``"virial"``, to insist on one of the two.

    Returns:
        The values, (S,) or (S, 3, 3), and the composition (S, 119).

    Raises:
        ValueError: for any other shape.
    """
    target, shape, rank = array_or_tensor(target)
    found = KEYS.get(shape[-1]) if rank == 2 else None
    if found not in ("energy", "virial"):
        raise ValueError(
            "A target per structure has the shape (S, 121) for energies or (S, 128) "
            f"for virials: the values, then the composition. Received: {shape}. "
            "Pack labels with `tfpes.targets.structure_target(values, composition)`."
        )
    if key not in (None, found):
        raise ValueError(
            f"The target of the key '{key}' is `structure_target({key}, composition)`. "
            f"Received: shape {shape}, that of the key '{found}'. Check the keys of "
            "losses and metrics."
        )
    values, counts = target[..., :-NUMBER_OF_COLUMNS], target[..., -NUMBER_OF_COLUMNS:]
    if found == "energy":
        return _whole(values[..., 0], values[..., 1]), counts
    reshape = np.reshape if isinstance(target, np.ndarray) else tf.reshape
    return reshape(values, (-1, 3, 3)), counts


def _whole(energy: Tensor, low: Tensor) -> Tensor:
    """Return energies with the digits that a cast to float32 took, float64."""
    if isinstance(energy, np.ndarray):
        energy, low = energy.astype(np.float64), low.astype(np.float64)
        cast = energy.view(np.int64) & _DIGITS == 0
        return np.where(cast, energy + low, energy)
    energy, low = tf.cast(energy, tf.float64), tf.cast(low, tf.float64)
    # By its bits: a compiler may take a cast there and back for nothing.
    cast = tf.bitcast(energy, tf.int64) & _DIGITS == 0
    return tf.where(cast, energy + low, energy)


def split_atom_target(target: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Undo :func:`atom_target`.

    Args:
        target: (A, 3 + 2), or (B, N, 3 + 1).

    Returns:
        The values (A, 3), the atomic numbers (A,) int32, the structure index
        (A,) int32; (B, N, 3), (B, N) and None of a dense one.

    Raises:
        ValueError: for any other shape.
    """
    target, shape, rank = array_or_tensor(target)
    dense = is_dense(shape, rank)
    if not dense and (rank != 2 or shape[-1] != 5):
        raise ValueError(
            "A target per atom has the shape (A, 5): Fx, Fy, Fz, atomic number, "
            "structure index; or (B, N, 4) where the structure is the row. Received: "
            f"{shape}. Pack labels with "
            "`tfpes.targets.atom_target(values, atomic_numbers, structure_index)`."
        )
    cast = np.asarray if isinstance(target, np.ndarray) else tf.cast
    number = cast(target[..., 3], np.int32)
    return target[..., :3], number, None if dense else cast(target[..., 4], np.int32)


def _check_layout(atomic_numbers: Tensor, structure_index: Tensor | None) -> None:
    rank = 2 if structure_index is None else 1
    if atomic_numbers.shape.rank != rank:
        raise ValueError(
            "Atomic numbers are (A,) with a `structure_index`, or (B, N) without, a "
            f"structure a row. Received: shape {atomic_numbers.shape} "
            f"{'without' if rank == 2 else 'with'}. Batch a data set before `map`."
        )


def _only(values: Tensor, present: Tensor | None) -> Tensor:
    """Return values, NaN where they are not there."""
    if present is None:
        return values
    present = tf.cast(present, tf.bool)
    if present.shape.rank > 1 and present.shape[-1] == 1:
        present = tf.squeeze(present, -1)
    rank = present.shape.rank
    if not present.shape.is_compatible_with(values.shape[:rank]):
        raise ValueError(
            f"`present` must be flags of the labels {values.shape}, or of their first "
            f"dimensions. Received: shape {present.shape}."
        )
    more = [1] * (values.shape.rank - rank)
    present = tf.reshape(present, tf.concat([tf.shape(present), more], 0))
    return tf.where(present, values, tf.constant(np.nan, values.dtype))


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
