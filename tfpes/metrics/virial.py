"""Errors of virials."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.losses.standardized_errors import column
from tfpes.metrics.mean_metric import MeanMetric, difference
from tfpes.metrics.structure_errors import number_of_atoms
from tfpes.targets import split_structure_target


class _VirialError(MeanMetric):
    def __init__(self, per_atom: bool, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.per_atom = bool(per_atom)

    def values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        virial, composition = split_structure_target(tf.cast(y_true, tf.float64))
        pred = column(y_pred, virial, "virials (S, 3, 3) or (S, 3, 3, 1)")
        error, present = difference(virial, pred)
        if self.per_atom:
            error /= number_of_atoms(composition)[:, None, None]
        return error**2 if self.root else tf.abs(error), present

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "per_atom": self.per_atom}


@keras.saving.register_keras_serializable(package="tfpes")
class VirialMAE(_VirialError):
    """Mean absolute error of virial components, eV per atom or eV.

    ::

        mean_s,ab |W_sab,pred - W_sab,true| / N_s,   W = -dE/dε = -V · stress

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric.
        dtype: of the sums.

    Call arguments:
        y_true: (S, 9 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S, 3, 3) or (S, 3, 3, 1), eV.
        sample_weight: (S,), optional.
    """

    def __init__(
        self, per_atom: bool = True, name: str = "mae", dtype: Any = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(per_atom, name, dtype)


@keras.saving.register_keras_serializable(package="tfpes")
class VirialRMSE(_VirialError):
    """Root mean square error of virial components, eV per atom or eV.

    ::

        √(mean_s,ab ((W_sab,pred - W_sab,true) / N_s)²)

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric.
        dtype: of the sums.

    Call arguments:
        As for :class:`VirialMAE`.
    """

    root = True

    def __init__(
        self, per_atom: bool = True, name: str = "rmse", dtype: Any = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(per_atom, name, dtype)
