"""Errors of energies and virials."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.metrics.mean_metric import MeanMetric
from tfpes.targets import Tensor, labelled, split_structure_target


def energy_errors(
    y_true: Tensor, y_pred: Tensor, per_atom: bool = True
) -> tuple[Tensor, Tensor]:
    """Return ``(E_s,pred - E_s,true) / N_s``.

    Args:
        y_true: (S, 2 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S,) or (S, 1), eV.
        per_atom: divide by the number of atoms N_s.

    Returns:
        The errors (S,) float64, 0 where there is no label, and where there is one.

    Raises:
        ValueError: for shapes that do not fit.
    """
    return _errors("energy", y_true, y_pred, per_atom)


def virial_errors(
    y_true: Tensor, y_pred: Tensor, per_atom: bool = True
) -> tuple[Tensor, Tensor]:
    """Return ``(W_sab,pred - W_sab,true) / N_s``, like :func:`energy_errors`.

    Arguments are as well, with ``y_true`` (S, 9 + 119) and ``y_pred`` (S, 3, 3) or
    (S, 3, 3, 1) in eV. Both results are (S, 3, 3).
    """
    return _errors("virial", y_true, y_pred, per_atom)


def _errors(
    key: str, y_true: Tensor, y_pred: Tensor, per_atom: bool
) -> tuple[Tensor, Tensor]:
    labels, composition = split_structure_target(tf.cast(y_true, tf.float64), key)
    true, pred, present = labelled(labels, y_pred)
    error = pred - true
    if per_atom:
        # Padding has no atoms.
        size = tf.maximum(tf.reduce_sum(composition, axis=1), 1.0)
        error /= tf.reshape(size, [-1] + [1] * (error.shape.rank - 1))
    return error, present


class _StructureError(MeanMetric):
    key = "energy"

    def __init__(
        self, per_atom: bool = True, name: str | None = None, dtype: str = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(name or ("rmse" if self.root else "mae"), dtype)
        self.per_atom = bool(per_atom)

    def values(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return absolute errors or their squares, and where labels are."""
        error, present = _errors(self.key, y_true, y_pred, self.per_atom)
        return error**2 if self.root else tf.abs(error), present

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "per_atom": self.per_atom}


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyMAE(_StructureError):
    """Mean absolute error of energies, eV per atom or eV.

    ::

        mean_s |E_s,pred - E_s,true| / N_s

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric; ``"mae"``.
        dtype: of the sums; float64, because total energies are large.

    Call arguments:
        y_true: (S, 2 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S,) or (S, 1), eV.
        sample_weight: (S,), optional.
    """


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyRMSE(_StructureError):
    """Root mean square error of energies, eV per atom or eV.

    ::

        √(mean_s ((E_s,pred - E_s,true) / N_s)²)

    Arguments, of calls too, are those of :class:`EnergyMAE`; the name is ``"rmse"``.
    """

    root = True


@keras.saving.register_keras_serializable(package="tfpes")
class VirialMAE(_StructureError):
    """Mean absolute error of virial components, eV per atom or eV.

    ::

        mean_s,ab |W_sab,pred - W_sab,true| / N_s,   W = -dE/dε = -V · stress

    Arguments are those of :class:`EnergyMAE`.

    Call arguments:
        y_true: (S, 9 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S, 3, 3) or (S, 3, 3, 1), eV.
        sample_weight: (S,), optional.
    """

    key = "virial"


@keras.saving.register_keras_serializable(package="tfpes")
class VirialRMSE(_StructureError):
    """Root mean square error of virial components, eV per atom or eV.

    ::

        √(mean_s,ab ((W_sab,pred - W_sab,true) / N_s)²)

    Arguments are those of :class:`EnergyMAE`, and in calls of :class:`VirialMAE`; the
    name is ``"rmse"``.
    """

    key = "virial"
    root = True
