"""Errors in physical units, exact over batches: sums and counts, one division."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.losses.errors import column
from tfpes.targets import split_atom_target, split_structure_target


class _MeanError(keras.metrics.Metric):
    """The mean of ``|error|``, or the root of that of ``error²``, over labels."""

    squared = False

    def __init__(self, name: str, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def labels(self, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
        """Return labels, predictions, and what their difference is divided by."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: the packed target, see :mod:`tfpes.targets`.
            y_pred: the prediction.
            sample_weight: one weight per row, or None.
        """
        true, pred, unit = self.labels(y_true, y_pred)
        # The label decides: a prediction of NaN must show.
        present = tf.math.is_finite(true)
        difference = tf.cast(pred, self.dtype) - tf.cast(true, self.dtype)
        difference /= tf.cast(unit, self.dtype)
        error = difference**2 if self.squared else tf.abs(difference)
        weight = tf.cast(present, self.dtype)
        if sample_weight is not None:
            rows = (-1,) + (1,) * (len(weight.shape) - 1)
            weight *= tf.reshape(tf.cast(sample_weight, self.dtype), rows)
        error = tf.where(present, weight * error, 0.0)
        self.total.assign_add(tf.reduce_sum(error))
        self.count.assign_add(tf.reduce_sum(weight))

    def result(self) -> Any:
        """Return the mean or its root over all batches; 0 without labels."""
        mean = tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )
        return tf.sqrt(mean) if self.squared else mean

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"name": self.name, "dtype": self.dtype}


class _EnergyError(_MeanError):
    def __init__(self, per_atom: bool, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.per_atom = bool(per_atom)

    def labels(self, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
        energy, composition = split_structure_target(tf.convert_to_tensor(y_true))
        pred = column(y_pred, energy, "energies (S,) or (S, 1)")
        size = tf.maximum(tf.reduce_sum(composition, axis=1), 1.0)
        return energy, pred, size if self.per_atom else tf.ones_like(size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "per_atom": self.per_atom}


class _ForceError(_MeanError):
    def labels(self, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
        forces, _, _ = split_atom_target(tf.convert_to_tensor(y_true))
        pred = column(y_pred, forces, "forces (A, 3) or (A, 3, 1)")
        return forces, pred, 1.0


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyMAE(_EnergyError):
    """Mean absolute error of energies, eV per atom or eV.

    ::

        mean_s |E_s,pred - E_s,true| / N_s

    Args:
        per_atom: divide by the number of atoms N_s.
        name: of the metric.
        dtype: of the sums; float64, because total energies are large.
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
    """

    squared = True

    def __init__(
        self, per_atom: bool = True, name: str = "rmse", dtype: Any = "float64"
    ) -> None:
        """Create the sums."""
        super().__init__(per_atom, name, dtype)


@keras.saving.register_keras_serializable(package="tfpes")
class ForceMAE(_ForceError):
    """Mean absolute error of force components, eV/Å.

    ::

        mean_i,c |F_ic,pred - F_ic,true|

    Args:
        name: of the metric.
        dtype: of the sums; float64, exact over many batches.
    """

    def __init__(self, name: str = "mae", dtype: Any = "float64") -> None:
        """Create the sums."""
        super().__init__(name, dtype)


@keras.saving.register_keras_serializable(package="tfpes")
class ForceRMSE(_ForceError):
    """Root mean square error of force components, eV/Å.

    ::

        √(mean_i,c (F_ic,pred - F_ic,true)²)

    Args:
        name: of the metric.
        dtype: of the sums; float64, exact over many batches.
    """

    squared = True

    def __init__(self, name: str = "rmse", dtype: Any = "float64") -> None:
        """Create the sums."""
        super().__init__(name, dtype)
