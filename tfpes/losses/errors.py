"""Standardized errors as pure functions, for losses and custom training loops."""

from typing import Any

import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric
from tfpes.targets import split_atom_target, split_structure_target


def energy_error(
    normalization: PESNormalization, y_true: Any, y_pred: Any, metric: Metric
) -> tuple[Any, Any]:
    """Return the metric of the standardized energies of each structure.

    ``metric(E'_true, E'_pred)`` with ``E' = (E - Σ n_z μ_z) / √(Σ n_z σ_z² + N² κ²)``.

    Args:
        normalization: with the statistics.
        y_true: (S, 1 + 119), see :mod:`tfpes.targets`.
        y_pred: (S,) or (S, 1), eV.
        metric: element-wise function of (E'_true, E'_pred).

    Returns:
        The errors (S,) float64, 0 where there is no label, and where there is one
        (S,) bool.

    Raises:
        ValueError: for shapes that do not fit.
    """
    energy, composition = split_structure_target(tf.cast(y_true, tf.float64))
    if energy.shape.rank != 1:
        raise ValueError(
            "Energies are packed with `structure_target(energy, composition)` to (S, "
            f"120). Received a target of shape {tf.convert_to_tensor(y_true).shape}, "
            "which is a virial's. Check the keys of the losses."
        )
    pred = column(y_pred, energy, "energies (S,) or (S, 1)")
    present = tf.math.is_finite(energy)
    # The label is replaced before any arithmetic: 0 × NaN is NaN, in gradients too.
    true = tf.where(present, energy, 0.0)
    pred = tf.where(present, tf.cast(pred, tf.float64), 0.0)
    baseline = normalization.energy_baseline(composition)
    scale = normalization.energy_scale(composition)
    error = metric((true - baseline) / scale, (pred - baseline) / scale)
    return tf.where(present, error, 0.0), present


def force_error(
    normalization: PESNormalization, y_true: Any, y_pred: Any, metric: Metric
) -> tuple[Any, Any]:
    """Return the metric of the standardized force components of each atom.

    ``metric(F'_true, F'_pred)`` with ``F'_i = F_i / η_z``.

    Args:
        normalization: with the statistics.
        y_true: (A, 3 + 2), see :mod:`tfpes.targets`.
        y_pred: (A, 3) or (A, 3, 1), eV/Å.
        metric: element-wise function of (F'_true, F'_pred).

    Returns:
        The errors (A, 3), 0 where there is no label, and where there is one (A, 3)
        bool.

    Raises:
        ValueError: for shapes that do not fit.
    """
    forces, atomic_numbers, _ = split_atom_target(tf.convert_to_tensor(y_true))
    pred = column(y_pred, forces, "forces (A, 3) or (A, 3, 1)")
    present = tf.math.is_finite(forces)
    dtype = tf.as_dtype(pred.dtype) if pred.dtype.size > 4 else forces.dtype
    true = tf.cast(tf.where(present, forces, 0.0), dtype)
    pred = tf.where(present, tf.cast(pred, dtype), 0.0)
    scale = tf.cast(normalization.force_scale_of(atomic_numbers), dtype)[:, None]
    error = metric(true / scale, pred / scale)
    return tf.where(present, error, 0.0), present


def column(y_pred: Any, labels: Any, expected: str) -> Any:
    """Drop a last dimension of 1, and insist on the shape of the labels."""
    pred = tf.convert_to_tensor(y_pred)
    shape = pred.shape
    if shape.rank == labels.shape.rank + 1 and shape[-1] == 1:
        pred = tf.squeeze(pred, axis=-1)
    if not labels.shape.is_compatible_with(pred.shape):
        raise ValueError(
            f"Predictions must be {expected}, for labels of shape {labels.shape}. "
            f"Received: {shape}. Nothing is broadcast; check the model's output."
        )
    return pred
