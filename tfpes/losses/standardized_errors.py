"""Standardized errors as pure functions, for losses and custom training loops."""

from typing import Any

import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.targets import split_atom_target, split_structure_target


def energy_error(
    normalization: PESNormalization,
    y_true: Any,
    y_pred: Any,
    metric: str | Metric = "mse",
    delta: float = 1.0,
) -> tuple[Any, Any]:
    """Return the metric of the standardized energies of each structure.

    ``metric(E'_true, E'_pred)`` with ``E' = (E - Σ n_z μ_z) / √(Σ n_z σ_z² + N² κ²)``.

    Args:
        normalization: with the statistics.
        y_true: (S, 1 + 119), see :mod:`tfpes.targets`.
        y_pred: (S,) or (S, 1), eV.
        metric: as for :class:`tfpes.losses.EnergyLoss`.
        delta: of ``"huber"``, in standard deviations.

    Returns:
        The errors (S,) float64, 0 where there is no label, and where there is one
        (S,) bool.

    Raises:
        ValueError: for shapes that do not fit, or an unknown metric.

    Example:
        >>> import tfpes
        >>> norm = tfpes.layers.PESNormalization(
        ...     energy_mean={"H": -1.0}, energy_variance={"H": 0.02}
        ... )
        >>> counts = tfpes.targets.composition([1, 1, 1], [0, 0, 1], 2)
        >>> label = tfpes.targets.structure_target([-2.0, float("nan")], counts)
        >>> error, present = energy_error(norm, label, [-1.8, -1.0], "mae")
        >>> error.numpy().round(6), present.numpy()
        (array([1., 0.]), array([ True, False]))
    """
    energy, composition = split_structure_target(tf.cast(y_true, tf.float64))
    if energy.shape.rank != 1:
        raise ValueError(
            "Energies are packed with `structure_target(energy, composition)` to (S, "
            f"120). Received a target of shape {tf.convert_to_tensor(y_true).shape}, "
            "which is a virial's. Check the keys of the losses."
        )
    pred = column(y_pred, energy, "energies (S,) or (S, 1)")
    true, pred, present = _labelled(energy, pred)
    baseline = normalization.energy_baseline(composition)
    scale = normalization.energy_scale(composition)
    function = resolve(metric, delta)
    error = function((true - baseline) / scale, (pred - baseline) / scale)
    return tf.where(present, error, 0.0), present


def force_error(
    normalization: PESNormalization,
    y_true: Any,
    y_pred: Any,
    metric: str | Metric = "mse",
    delta: float = 1.0,
) -> tuple[Any, Any]:
    """Return the metric of the standardized forces on each atom.

    ``metric(F'_true, F'_pred)`` with ``F'_i = F_i / η_z``.

    Args:
        normalization: with the statistics.
        y_true: (A, 3 + 2), see :mod:`tfpes.targets`.
        y_pred: (A, 3) or (A, 3, 1), eV/Å.
        metric: as for :class:`tfpes.losses.ForceLoss`.
        delta: of ``"huber"``, in standard deviations.

    Returns:
        The errors (A, 3), 0 where there is no label, and where there is one (A, 3)
        bool; (A, 1) both for ``"l2"``, over the components that have a label.

    Raises:
        ValueError: for shapes that do not fit, or an unknown metric.
    """
    forces, atomic_numbers, _ = split_atom_target(tf.convert_to_tensor(y_true))
    pred = column(y_pred, forces, "forces (A, 3) or (A, 3, 1)")
    true, pred, present = _labelled(forces, pred)
    scale = tf.cast(normalization.force_scale_of(atomic_numbers), true.dtype)[:, None]
    return _vector_error(true / scale, pred / scale, present, metric, delta)


def virial_error(
    normalization: PESNormalization,
    y_true: Any,
    y_pred: Any,
    metric: str | Metric = "mse",
    delta: float = 1.0,
) -> tuple[Any, Any]:
    """Return the metric of the standardized virial of each structure.

    ``metric(W'_true, W'_pred)`` with ``W' = W / √(Σ n_z τ_z²)``.

    Args:
        normalization: with the statistics.
        y_true: (S, 9 + 119), see :mod:`tfpes.targets`.
        y_pred: (S, 3, 3) or (S, 3, 3, 1), eV.
        metric: as for :class:`tfpes.losses.VirialLoss`.
        delta: of ``"huber"``, in standard deviations.

    Returns:
        The errors (S, 9) float64, row by row, 0 where there is no label, and where
        there is one (S, 9) bool; (S, 1) both for ``"l2"``, the Frobenius norm over the
        components that have a label.

    Raises:
        ValueError: for shapes that do not fit, or an unknown metric.
    """
    virial, composition = split_structure_target(tf.cast(y_true, tf.float64))
    if virial.shape.rank != 3:
        raise ValueError(
            "Virials are packed with `structure_target(virial, composition)` to (S, "
            f"128). Received a target of shape {tf.convert_to_tensor(y_true).shape}, "
            "which is an energy's. Check the keys of the losses."
        )
    pred = column(y_pred, virial, "virials (S, 3, 3) or (S, 3, 3, 1)")
    true, pred, present = (
        tf.reshape(part, (-1, 9)) for part in _labelled(virial, pred)
    )
    scale = normalization.virial_scale_of(composition)[:, None]
    return _vector_error(true / scale, pred / scale, present, metric, delta)


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


def _labelled(labels: Any, pred: Any) -> tuple[Any, Any, Any]:
    """Return labels and predictions, 0 where there is no label, and where one is."""
    present = tf.math.is_finite(labels)
    # The label is replaced before any arithmetic: 0 × NaN is NaN, in gradients too.
    dtype = tf.as_dtype(pred.dtype if pred.dtype.size > 4 else labels.dtype)
    true = tf.cast(tf.where(present, labels, 0.0), dtype)
    return true, tf.where(present, tf.cast(pred, dtype), 0.0), present


def _vector_error(
    true: Any, pred: Any, present: Any, metric: str | Metric, delta: float
) -> tuple[Any, Any]:
    error = resolve(metric, delta, vectors=True)(true, pred)
    if metric == "l2":
        present = tf.reduce_any(present, axis=-1, keepdims=True)
    return tf.where(present, error, 0.0), present
