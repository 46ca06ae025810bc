"""The base of all losses: reduction over the labels that are there."""

import sys
from typing import Any

import keras
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric, resolve
from tfpes.losses.standardized_errors import ERRORS
from tfpes.targets import (
    Tensor,
    flat,
    row_weights,
    split_atom_target,
    split_structure_target,
    unflat,
)

_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class StandardizedLoss(keras.losses.Loss):
    """Reduces standardized errors over the labels that are there.

    ``keras.losses.Loss.__call__`` divides by all rows, padding and missing labels
    included, and casts targets to its own dtype; this class replaces it.
    """

    key = ""
    average = ""

    def __init__(
        self,
        normalization: PESNormalization,
        metric: str | Metric = "mse",
        delta: float = 3.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = "float64",
    ) -> None:
        """Check and remember the arguments."""
        reduction = "none" if reduction is None else reduction
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"`reduction` must be one of {_REDUCTIONS}. Received: {reduction!r}."
            )
        name = name or f"{self.key.removesuffix('s')}_loss"
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.normalization = normalization
        self.metric = metric
        self.delta = float(delta)
        resolve(metric, self.delta, vectors=self.key != "energy")

    def errors(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors, (rows,) or (rows, columns), and where labels are."""
        return ERRORS[self.key](
            self.normalization, y_true, y_pred, self.metric, self.delta
        )

    def groups(self, y_true: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        """Change what is averaged: sums of errors, weights and labels of rows."""
        return sums

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the error of each row, 0 where it has no label; see ``"none"``."""
        error, _, count = self._sums(y_true, y_pred)
        return self._each(y_true, error, count)

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Return the reduced loss.

        Args:
            y_true: the packed target, see :mod:`tfpes.targets`.
            y_pred: the prediction; rows out of its Keras mask have no label.
            sample_weight: as the class describes, or None.

        Returns:
            A scalar; with ``reduction="none"`` the weighted mean error of each row.

        Raises:
            RuntimeError: if the normalization has no statistics yet.
            TypeError: in a model of Keras 2.
            ValueError: for shapes that do not fit.
        """
        refuse_keras_2()
        with tf.name_scope(self.name):
            error, weight, count = self._sums(y_true, y_pred, sample_weight)
            if self.reduction == "none":
                return self._each(y_true, error, count)
            total = tf.reduce_sum(error)
            if self.reduction == "sum":
                return total
            by_weight = self.reduction == "mean_with_sample_weight"
            divisor = tf.reduce_sum(weight if by_weight else count)
            replicas = tf.distribute.get_replica_context()
            if replicas is not None and replicas.num_replicas_in_sync > 1:
                # Gradients are summed over replicas, each of which has its own labels.
                divisor = replicas.all_reduce("SUM", divisor)
            return tf.math.divide_no_nan(total, divisor)

    def count(self, y_true: Tensor) -> Tensor:
        """Return what the mean is over: the number of labels, or of groups of them."""
        split = split_atom_target if self.key == "forces" else split_structure_target
        y_true = flat(y_true)[0]
        labels = split(tf.convert_to_tensor(y_true))[0]
        return tf.reduce_sum(self._sums(y_true, tf.zeros_like(labels))[2])

    def _sums(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return sums of weighted errors, of weights and of labels of each row."""
        self.normalization.require_adapted(self.key)
        y_true, y_pred, sample_weight = flat(y_true, y_pred, sample_weight)
        error, count = (tf.cast(x, self.dtype) for x in self.errors(y_true, y_pred))
        if error.shape.rank > 1:
            error, count = tf.reduce_sum(error, axis=1), tf.reduce_sum(count, axis=1)
        weight = count
        if sample_weight is not None:
            by_structure = self.average == "structures"
            factor = row_weights(sample_weight, y_true, or_structures=by_structure)
            # The weight of a row without labels may be anything, NaN included.
            factor = tf.where(count > 0, tf.cast(factor, self.dtype), 0.0)
            error, weight = factor * error, factor * count
        return self.groups(y_true, error, weight, count)

    def _each(self, y_true: Tensor, error: Tensor, count: Tensor) -> Tensor:
        """Return the mean error of each row, or structure of a dense target."""
        mean = tf.math.divide_no_nan(error, count)
        if self.average == "structures":
            return mean[: tf.shape(y_true)[0]]
        return unflat(mean, y_true)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        config = {**super().get_config(), "delta": self.delta, "dtype": self.dtype}
        for part in ("normalization", "metric"):
            config[part] = keras.saving.serialize_keras_object(getattr(self, part))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandardizedLoss":
        """Make a loss from what :meth:`get_config` returned."""
        config = dict(config)
        for part in ("normalization", "metric"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


@tf.autograph.experimental.do_not_convert
def refuse_keras_2() -> None:
    """Raise a TypeError inside a model of Keras 2.

    It takes a loss of Keras 3 for a function, whose mean it multiplies by the mean of
    the sample weights, and a metric for one of which it takes the mean.
    """
    frame = sys._getframe() if "tf_keras" in sys.modules else None
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("tf_keras."):
            raise TypeError(
                "Losses and metrics of tfpes are for models of Keras 3. Received: a "
                "call from a model of Keras 2, `tf_keras`, which would apply sample "
                "weights in another way. Build the model with `import keras`."
            )
        frame = frame.f_back
