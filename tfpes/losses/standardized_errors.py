"""Standardized errors as pure functions, for losses and custom training loops."""

import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.targets import Tensor, labelled, split_atom_target, split_structure_target


def energy_error(
    normalization: PESNormalization,
    y_true: Tensor,
    y_pred: Tensor,
    metric: str | Metric = "mse",
    delta: float = 3.0,
) -> tuple[Tensor, Tensor]:
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
    energy, composition = split_structure_target(tf.cast(y_true, tf.float64), "energy")
    true, pred, present = labelled(energy, y_pred)
    baseline = normalization.energy_baseline(composition)
    scale = normalization.energy_scale(composition)
    function = resolve(metric, delta)
    error = function((true - baseline) / scale, (pred - baseline) / scale)
    return tf.where(present, error, 0.0), present


def force_error(
    normalization: PESNormalization,
    y_true: Tensor,
    y_pred: Tensor,
    metric: str | Metric = "mse",
    delta: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """Return the metric of the standardized forces on each atom.

    ``metric(F'_true, F'_pred)`` with ``F'_i = F_i / η_z``. Arguments are those of
    :func:`energy_error`, with ``y_true`` (A, 3 + 2), ``y_pred`` (A, 3) or (A, 3, 1) in
    eV/Å, and a metric as for :class:`tfpes.losses.ForceLoss`.

    Returns:
        The errors (A, 3), 0 where there is no label, and where there is one (A, 3)
        bool; (A, 1) both for ``"l2"``, over the components that have a label.
    """
    forces, atomic_numbers, _ = split_atom_target(tf.convert_to_tensor(y_true))
    true, pred, present = labelled(forces, y_pred)
    scale = tf.cast(normalization.force_scale_of(atomic_numbers), true.dtype)[:, None]
    return _vector_error(true / scale, pred / scale, present, metric, delta)


def virial_error(
    normalization: PESNormalization,
    y_true: Tensor,
    y_pred: Tensor,
    metric: str | Metric = "mse",
    delta: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """Return the metric of the standardized virial of each structure.

    ``metric(W'_true, W'_pred)`` with ``W' = W / √(Σ n_z τ_z²)``. Arguments are those of
    :func:`energy_error`, with ``y_true`` (S, 9 + 119), ``y_pred`` (S, 3, 3) or
    (S, 3, 3, 1) in eV, and a metric as for :class:`tfpes.losses.VirialLoss`.

    Returns:
        The errors (S, 9) float64, row by row, 0 where there is no label, and where
        there is one (S, 9) bool; (S, 1) both for ``"l2"``, the Frobenius norm over the
        components that have a label.
    """
    virial, composition = split_structure_target(tf.cast(y_true, tf.float64), "virial")
    true, pred, present = (tf.reshape(x, (-1, 9)) for x in labelled(virial, y_pred))
    scale = normalization.virial_scale_of(composition)[:, None]
    return _vector_error(true / scale, pred / scale, present, metric, delta)


ERRORS = {"energy": energy_error, "forces": force_error, "virial": virial_error}
"""By key."""


def _vector_error(
    true: Tensor, pred: Tensor, present: Tensor, metric: str | Metric, delta: float
) -> tuple[Tensor, Tensor]:
    error = resolve(metric, delta, vectors=True)(true, pred)
    if metric == "l2":
        present = tf.reduce_any(present, axis=-1, keepdims=True)
    return tf.where(present, error, 0.0), present
