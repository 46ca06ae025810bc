"""The base of the metrics that are means over labels: sums and counts."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.losses.standardized_loss import flat_weights


class MeanMetric(keras.metrics.Metric):
    """The mean over all batches of what :meth:`values` returns, or its root.

    Sums and counts are float64, and there is one division at the end: the result does
    not depend on how the data are divided into batches.
    """

    root = False

    def __init__(self, name: str, dtype: Any) -> None:
        """Create the sums."""
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def values(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """Return numbers, 0 where there is no label, and where there is one.

        Both are (rows,) or (rows, columns).
        """
        raise NotImplementedError

    def weights(self, y_true: Any, sample_weight: Any) -> Any:
        """Return one weight per row, (rows,)."""
        return row_weights(y_true, sample_weight)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch.

        Args:
            y_true: the packed target, see :mod:`tfpes.targets`.
            y_pred: the prediction.
            sample_weight: as the class describes, or None.

        Raises:
            ValueError: for shapes that do not fit.
        """
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

    def result(self) -> Any:
        """Return the mean or its root over all batches; 0 without labels."""
        mean = tf.math.divide_no_nan(
            tf.convert_to_tensor(self.total), tf.convert_to_tensor(self.count)
        )
        return tf.sqrt(mean) if self.root else mean

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"name": self.name, "dtype": self.dtype}


def difference(labels: Any, pred: Any) -> tuple[Any, Any]:
    """Return ``pred - labels``, 0 where there is no label, and where there is one.

    The arithmetic is that of the finer type.
    """
    # The label decides: a prediction of NaN must show.
    present = tf.math.is_finite(labels)
    dtype = tf.as_dtype(pred.dtype if pred.dtype.size > 4 else labels.dtype)
    error = tf.cast(pred, dtype) - tf.cast(labels, dtype)
    return tf.where(present, error, 0.0), present


def row_weights(y_true: Any, sample_weight: Any, structures: Any = None) -> Any:
    """Return one weight per row of a target, (rows,).

    Args:
        y_true: the target.
        sample_weight: (rows,) or (rows, 1), or one per structure.
        structures: the structure of each row, if rows are atoms.
    """
    weight = flat_weights(sample_weight)
    rows = tf.convert_to_tensor(y_true).shape[0]
    if weight.shape.rank == 1:
        if weight.shape.is_compatible_with([rows]):
            if structures is None or rows is not None:
                return weight
            # Lengths are known only when the graph runs.
            count = tf.shape(structures)[0]
            per_atom = tf.shape(weight)[0] == count
            structures = tf.where(per_atom, tf.range(count), structures)
        if structures is not None:
            return tf.gather(weight, structures)
    what = "structure" if structures is None else "atom, or for each structure"
    raise ValueError(
        f"`sample_weight` of this metric must be one number for each {what}, for a "
        f"target of {rows} rows. Received: shape {tuple(weight.shape)}."
    )
