"""The base of all losses: reduction over the labels that are there."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.targets import Tensor, row_weights

REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class StandardizedLoss(keras.losses.Loss):
    """Reduces standardized errors over the labels that are there.

    ``keras.losses.Loss.__call__`` divides by all rows, padding and missing labels
    included, and casts targets to its own dtype; this class replaces it.
    """

    label = ""
    vectors = False

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
        resolve(metric, self.delta, self.vectors)

    def errors(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return errors (rows, columns) and where labels are."""
        raise NotImplementedError

    def groups(
        self, y_true: Any, error: Any, weight: Any, count: Any
    ) -> tuple[Any, Any, Any]:
        """Change what is averaged: sums of rows, of their weights, and of labels."""
        return error, weight, count

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the reduced loss.

        Args:
            y_true: the packed target, see :mod:`tfpes.targets`.
            y_pred: the prediction.
            sample_weight: as the class describes, or None.

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
            count = tf.reduce_sum(present, axis=1)
            error = tf.reduce_sum(error, axis=1)
            weight = count
            if sample_weight is not None:
                factor = self.weights(y_true, sample_weight)
                # The weight of a row without labels may be anything, NaN included.
                factor = tf.where(count > 0, tf.cast(factor, self.dtype), 0.0)
                error, weight = factor * error, factor * count
            return self._reduce(*self.groups(y_true, error, weight, count))

    call = __call__

    def weights(self, y_true: Tensor, sample_weight: Tensor) -> Tensor:
        """Return one weight per row of the target, (rows,)."""
        return row_weights(sample_weight, y_true)

    def _reduce(self, error: Any, weight: Any, count: Any) -> Any:
        if self.reduction == "none":
            return tf.math.divide_no_nan(error, count)
        total = tf.reduce_sum(error)
        if self.reduction == "sum":
            return total
        by_weight = self.reduction == "mean_with_sample_weight"
        divisor = tf.reduce_sum(weight if by_weight else count)
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
