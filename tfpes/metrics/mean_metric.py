"""The base of the metrics that are means over labels: sums and counts."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.losses.standardized_loss import refuse_keras_2
from tfpes.targets import Tensor, flat, row_weights


class Metric(keras.metrics.Metric):
    """A metric of Keras 3, which says so to models of Keras 2."""

    @property
    def variables(self) -> list[keras.Variable]:
        """The state; ``compile`` of Keras 2 asks for it first.

        Raises:
            TypeError: in a model of Keras 2.
        """
        refuse_keras_2()
        return super().variables


class MeanMetric(Metric):
    """The mean over all batches of what :meth:`values` returns, or its root.

    Sums and counts are float64, and divided once, at the end: the result does not
    depend on how the data are divided into batches.
    """

    root = False

    def __init__(self, name: str, dtype: str) -> None:
        """Create the sums."""
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def values(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers, 0 where there is no label, and where there is one.

        Both are (rows,), (rows, columns) or (rows, 3, 3).
        """
        raise NotImplementedError

    def rows(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, ...]:
        """Return the arguments with atoms as rows."""
        return flat(y_true, y_pred, sample_weight)

    def weights(self, y_true: Tensor, sample_weight: Tensor) -> Tensor:
        """Return one weight per row, (rows,)."""
        return row_weights(sample_weight, y_true, or_structures=True)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Add a batch: a packed target, predictions, and weights of rows or None.

        Raises:
            TypeError: in a model of Keras 2.
            ValueError: for shapes that do not fit.
        """
        refuse_keras_2()
        y_true, y_pred, sample_weight = self.rows(y_true, y_pred, sample_weight)
        values, present = self.values(y_true, y_pred)
        values, present = tf.cast(values, self.dtype), tf.cast(present, self.dtype)
        if sample_weight is not None:
            weight = self.weights(y_true, sample_weight)
            columns = list(range(1, values.shape.rank))
            values = tf.reduce_sum(values, axis=columns)
            present = tf.reduce_sum(present, axis=columns)
            # The weight of a row without labels may be anything, NaN included.
            weight = tf.where(present > 0, tf.cast(weight, self.dtype), 0.0)
            values, present = weight * values, weight * present
        self.total.assign_add(tf.reduce_sum(values))
        self.count.assign_add(tf.reduce_sum(present))

    def result(self) -> Tensor:
        """Return the mean or its root over all batches; NaN without labels."""
        # 0 would be a perfect model.
        mean = tf.convert_to_tensor(self.total) / tf.convert_to_tensor(self.count)
        return tf.sqrt(mean) if self.root else mean
