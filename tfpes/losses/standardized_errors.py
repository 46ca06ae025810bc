"""Standardized errors as pure functions, for losses and custom training loops."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.targets import (
    Tensor,
    flat,
    labelled,
    split_atom_target,
    split_structure_target,
    unflat,
)

# Orthonormal: pressure, two differences of diagonal entries, three shears.
_BASIS = np.zeros((6, 3, 3))
_BASIS[0] = np.eye(3) / 3**0.5
_BASIS[1] = np.diag([1, -1, 0]) / 2**0.5
_BASIS[2] = np.diag([-1, -1, 2]) / 6**0.5
_BASIS[[3, 4, 5], [1, 0, 0], [2, 2, 1]] = 0.5**0.5
_BASIS[[3, 4, 5], [2, 2, 1], [1, 0, 0]] = 0.5**0.5


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
        y_true: (S, 2 + 119), see :mod:`tfpes.targets`.
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
    eV/Å, and a metric as for :class:`tfpes.losses.ForceLoss`; or dense, (B, N, …).

    Returns:
        The errors (A, 3), 0 where there is no label, and where there is one (A, 3)
        bool; (A, 1) both for ``"l2"``, over the components that have a label. Dense
        ones are (B, N, 3) and (B, N, 1).
    """
    target, y_pred, _ = flat(tf.convert_to_tensor(y_true), y_pred)
    forces, atomic_numbers, _ = split_atom_target(target)
    true, pred, present = labelled(forces, y_pred)
    scale = tf.cast(normalization.force_scale_of(atomic_numbers), true.dtype)[:, None]
    errors = _vector_error(true / scale, pred / scale, present, metric, delta)
    return unflat(errors[0], y_true), unflat(errors[1], y_true)


def virial_error(
    normalization: PESNormalization,
    y_true: Tensor,
    y_pred: Tensor,
    metric: str | Metric = "mse",
    delta: float = 3.0,
) -> tuple[Tensor, Tensor]:
    """Return the metric of the standardized virial of each structure.

    ``metric(W'_true, W'_pred)`` of six orthonormal components: the pressure ``(p - Σ
    n_z π_z) / s_p`` with ``p = tr W / 3``, and five of ``D / s_d`` with ``D = W - p``:
    xx - yy, 2zz - xx - yy, yz, xz, xy. Arguments are those of
    :func:`energy_error`, with ``y_true`` (S, 9 + 119), ``y_pred`` (S, 3, 3) or
    (S, 3, 3, 1) in eV, and a metric as for :class:`tfpes.losses.VirialLoss`.

    Returns:
        The errors (S, 6) float64, 0 where there is no label, and where there is one
        (S, 6) bool: where all entries are that a component needs. (S, 1) both for
        ``"l2"``, the norm over the components that have a label.
    """
    virial, composition = split_structure_target(tf.cast(y_true, tf.float64), "virial")
    true, pred, present = labelled(virial, y_pred)
    present = _components(tf.cast(~present, tf.float64), np.abs(_BASIS)) == 0
    true, pred = (
        _components(normalization.standardize_virial(virial, composition))
        for virial in (true, pred)
    )
    # A component is there or not as a whole, whatever the entries that are.
    true, pred = (tf.where(present, values, 0.0) for values in (true, pred))
    return _vector_error(true, pred, present, metric, delta)


ERRORS = {"energy": energy_error, "forces": force_error, "virial": virial_error}
"""By key."""


def _components(tensor: Tensor, basis: NDArray = _BASIS) -> Tensor:
    """Return the components of symmetric tensors (S, 3, 3), (S, 6)."""
    return tf.tensordot(tensor, tf.constant(basis, tf.float64), [[1, 2], [1, 2]])


def _vector_error(
    true: Tensor, pred: Tensor, present: Tensor, metric: str | Metric, delta: float
) -> tuple[Tensor, Tensor]:
    error = resolve(metric, delta, vectors=True)(true, pred)
    if metric == "l2":
        present = tf.reduce_any(present, axis=-1, keepdims=True)
    return tf.where(present, error, 0.0), present
