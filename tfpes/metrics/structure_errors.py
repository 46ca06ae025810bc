"""Errors of energies."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.losses.standardized_errors import column
from tfpes.metrics.mean_metric import MeanMetric, difference
from tfpes.targets import split_structure_target


class _EnergyError(MeanMetric):
    def __init__(self, per_atom: bool, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.per_atom = bool(per_atom)

    def values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        energy, composition = split_structure_target(tf.cast(y_true, tf.float64))
        pred = column(y_pred, energy, "energies (S,) or (S, 1)")
        error, present = difference(energy, pred)
        if self.per_atom:
            error /= number_of_atoms(composition)
        return error**2 if self.root else tf.abs(error), present

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "per_atom": self.per_atom}


def number_of_atoms(composition: Any) -> Any:
    """Return the atoms of each structure, (S,), and 1 for padding."""
    return tf.maximum(tf.reduce_sum(composition, axis=1), 1.0)


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyMAE(_EnergyError):
    """Mean absolute error of energies, eV per atom or eV.

    ::

        mean_s |E_s,pred - E_s,true| / N_s

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric.
        dtype: of the sums; float64, because total energies are large.

    Call arguments:
        y_true: (S, 1 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S,) or (S, 1), eV.
        sample_weight: (S,), optional.
    """

    def __init__(
        self, per_atom: bool = True, name: str = "mae", dtype: Any = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(per_atom, name, dtype)


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyRMSE(_EnergyError):
    """Root mean square error of energies, eV per atom or eV.

    ::

        √(mean_s ((E_s,pred - E_s,true) / N_s)²)

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric.
        dtype: of the sums; float64, because total energies are large.

    Call arguments:
        As for :class:`EnergyMAE`.
    """

    root = True

    def __init__(
        self, per_atom: bool = True, name: str = "rmse", dtype: Any = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(per_atom, name, dtype)
