"""Losses of standardized energies and forces for ``compile(loss=...)``."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.losses.errors import energy_error, force_error

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class StandardizedLoss(keras.losses.Loss):
    """Reduces standardized errors over the labels that are there.

    ``keras.losses.Loss.__call__`` divides by all rows, padding and missing labels
    included, and casts targets to its own dtype; this class replaces it.
    """

    label = ""

    def __init__(
        self,
        normalization: PESNormalization,
        metric: str | Metric,
        delta: float,
        reduction: str | None,
        name: str,
        dtype: Any,
    ) -> None:
        """Check and remember the arguments."""
        reduction = "none" if reduction is None else reduction
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {REDUCTIONS}. Received: {reduction!r}."
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.normalization = normalization
        self.metric = metric
        self.delta = float(delta)
        self._function = resolve(metric, self.delta)

    def errors(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return errors (rows, columns) and where labels are."""
        raise NotImplementedError

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the reduced loss.

        Args:
            y_true: the packed target, see :mod:`tfpes.targets`.
            y_pred: the prediction.
            sample_weight: one weight per row, or None.

        Returns:
            A scalar; with ``reduction="none"`` the weighted mean error of each row.

        Raises:
            RuntimeError: if the normalization has no statistics yet.
            ValueError: for shapes that do not fit.
        """
        self.normalization.require_adapted(self.label)
        with tf.name_scope(self.name):
            error, present = self.errors(y_true, y_pred)
            error = tf.cast(error, self.dtype)
            present = tf.cast(present, self.dtype)
            return self._reduce(error, present, sample_weight)

    call = __call__

    def _reduce(self, error: Any, present: Any, sample_weight: Any) -> Any:
        weight = present
        if sample_weight is not None:
            sample_weight = tf.cast(sample_weight, self.dtype)
            weight = present * tf.reshape(sample_weight, (-1, 1))
        if self.reduction == "none":
            return tf.math.divide_no_nan(
                tf.reduce_sum(weight * error, axis=1), tf.reduce_sum(present, axis=1)
            )
        total = tf.reduce_sum(weight * error)
        if self.reduction == "sum":
            return total
        by_weight = self.reduction == "mean_with_sample_weight"
        divisor = tf.reduce_sum(weight if by_weight else present)
        # Keras sums gradients over replicas, each of which sees its own share.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.math.divide_no_nan(total, divisor) / replicas

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "normalization": keras.saving.serialize_keras_object(self.normalization),
            "metric": self.metric
            if isinstance(self.metric, str)
            else keras.saving.serialize_keras_object(self.metric),
            "delta": self.delta,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandardizedLoss":
        """Make a loss from what :meth:`get_config` returned."""
        config = dict(config)
        for part in ("normalization", "metric"):
            if isinstance(config[part], dict):
                config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyLoss(StandardizedLoss):
    """Mean metric of standardized total energies.

        loss = mean_s metric(E'_s,true, E'_s,pred),
        E' = (E - Σ n_z μ_z) / √(Σ n_z σ_z² + N² κ²)

    The mean is over the structures that have an energy. The expected loss does not
    depend on the size or the composition of a structure, nor on units.

    Args:
        normalization: the adapted :class:`tfpes.layers.PESNormalization`. The scale
            is read from its variables each time, so that a later ``adapt`` is seen.
        metric: ``"mse"``, ``"mae"``, ``"huber"``, or an element-wise function of
            (standardized_true, standardized_pred).
        delta: of ``"huber"``, in standard deviations.
        reduction: ``"sum_over_batch_size"`` (the mean over labels; weights do not
            change the divisor), ``"mean_with_sample_weight"`` (divides by the sum of
            weights), ``"sum"`` or ``"none"``.
        name: of the loss.
        dtype: of the arithmetic; float64, because total energies are large.

    Call arguments:
        y_true: (S, 1 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S,) or (S, 1), eV.
        sample_weight: (S,), optional.

    Example:
        >>> import tfpes
        >>> norm = tfpes.layers.PESNormalization(
        ...     energy_mean={"H": -1.0}, energy_variance={"H": 0.02}
        ... )
        >>> counts = tfpes.targets.composition([1, 1], [0, 0], 1)
        >>> label = tfpes.targets.structure_target([-2.0], counts)
        >>> round(float(EnergyLoss(norm)(label, [-1.8])), 6)
        1.0
    """

    label = "energy"

    def __init__(
        self,
        normalization: PESNormalization,
        metric: str | Metric = "mse",
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "energy_loss",
        dtype: Any = "float64",
    ) -> None:
        """Check and remember the arguments."""
        super().__init__(normalization, metric, delta, reduction, name, dtype)

    def errors(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return errors and where labels are, both (S, 1)."""
        error, present = energy_error(
            self.normalization, y_true, y_pred, self._function
        )
        return error[:, None], present[:, None]


@keras.saving.register_keras_serializable(package="tfpes")
class ForceLoss(StandardizedLoss):
    """Mean metric of standardized force components.

        loss = mean_i,c metric(F'_ic,true, F'_ic,pred),   F'_i = F_i / η_z

    The mean is over the components that have a label.

    Args:
        normalization: the adapted :class:`tfpes.layers.PESNormalization`.
        metric: ``"mse"``, ``"mae"``, ``"huber"``, or an element-wise function of
            (standardized_true, standardized_pred).
        delta: of ``"huber"``, in standard deviations.
        reduction: as for :class:`EnergyLoss`; the mean is over components.
        name: of the loss.
        dtype: of the reduction, Keras's ``floatx`` by default.

    Call arguments:
        y_true: (A, 3 + 2) float32 from ``tfpes.targets.atom_target``.
        y_pred: (A, 3) or (A, 3, 1), eV/Å.
        sample_weight: (A,), optional.
    """

    label = "forces"

    def __init__(
        self,
        normalization: PESNormalization,
        metric: str | Metric = "mse",
        delta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "force_loss",
        dtype: Any = None,
    ) -> None:
        """Check and remember the arguments."""
        super().__init__(normalization, metric, delta, reduction, name, dtype)

    def errors(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return errors and where labels are, both (A, 3)."""
        return force_error(self.normalization, y_true, y_pred, self._function)
