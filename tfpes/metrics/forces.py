"""Errors of forces."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.elements import SYMBOLS, atomic_number
from tfpes.losses.standardized_loss import refuse_keras_2
from tfpes.metrics.mean_metric import MeanMetric, Metric
from tfpes.targets import Tensor, flat, labelled, row_weights, split_atom_target

_COSINE_THRESHOLD = 1e-3
"""Forces below this norm (eV/Å) have no direction worth comparing."""


def force_errors(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``F_ic,pred - F_ic,true``.

    Args:
        y_true: (A, 3 + 2) float32 from ``tfpes.targets.atom_target``.
        y_pred: (A, 3) or (A, 3, 1), eV/Å.

    Returns:
        The errors (A, 3), 0 where there is no label, and where there is one.

    Raises:
        ValueError: for shapes that do not fit.
    """
    true, pred, present = _labelled_forces(y_true, y_pred)
    return pred - true, present


def force_cosines(
    y_true: Tensor, y_pred: Tensor, threshold: float = _COSINE_THRESHOLD
) -> tuple[Tensor, Tensor]:
    """Return ``F_i,pred · F_i,true / (‖F_i,pred‖ ‖F_i,true‖)``.

    Arguments are those of :func:`force_errors`, and the threshold of both norms, eV/Å.

    Returns:
        The cosines (A,), 0 where there is none, and where there is one.
    """
    true, pred, present = _labelled_forces(y_true, y_pred)
    norms = tf.norm(true, axis=1), tf.norm(pred, axis=1)
    # A prediction of NaN must show.
    present = tf.reduce_all(present, axis=1) & (norms[0] > threshold)
    present &= ~(norms[1] <= threshold)
    product = tf.where(present, norms[0] * norms[1], 1.0)
    cosine = tf.reduce_sum(true * pred, axis=1) / product
    return tf.where(present, cosine, 0.0), present


def _labelled_forces(y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return labelled(split_atom_target(tf.convert_to_tensor(y_true))[0], y_pred)


class _ForceError(MeanMetric):
    def __init__(
        self,
        element: str | int | None = None,
        name: str | None = None,
        dtype: str = "float64",
    ) -> None:
        """Create the sums."""
        self.element = None
        stem = "rmse" if self.root else "mae"
        if element is not None:
            self.element = SYMBOLS[atomic_number(element, "`element`")]
            stem = f"{stem}_{self.element}"
        super().__init__(name or stem, dtype)

    def values(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return absolute errors or their squares, and where labels are, (A, 3)."""
        error, present = force_errors(y_true, y_pred)
        if self.element is not None:
            atomic_numbers = split_atom_target(y_true)[1]
            present &= (atomic_numbers == SYMBOLS.index(self.element))[:, None]
            error = tf.where(present, error, 0.0)
        return error**2 if self.root else tf.abs(error), present

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "element": self.element}


@keras.saving.register_keras_serializable(package="tfpes")
class ForceMAE(_ForceError):
    """Mean absolute error of force components, eV/Å.

    ::

        mean_i,c |F_ic,pred - F_ic,true|

    Args:
        element: symbol or atomic number of the atoms that count; all by default.
        name: of the metric; ``"mae"``, or ``"mae_Cu"`` for an element.
        dtype: of the sums; float64, exact over many batches.

    Call arguments:
        y_true: (A, 3 + 2) or (B, N, 3 + 1) from ``tfpes.targets.atom_target``.
        y_pred: (A, 3) or (B, N, 3), or that and a last 1, eV/Å.
        sample_weight: (A,) or (B, N), or (S,) for the atoms of structures; optional.
    """


@keras.saving.register_keras_serializable(package="tfpes")
class ForceRMSE(_ForceError):
    """Root mean square error of force components, eV/Å.

    ::

        √(mean_i,c (F_ic,pred - F_ic,true)²)

    Arguments, of calls too, are those of :class:`ForceMAE`; names are ``"rmse"`` and
    ``"rmse_Cu"``.
    """

    root = True


@keras.saving.register_keras_serializable(package="tfpes")
class ForceCosine(MeanMetric):
    """Mean cosine of the angle between predicted and true forces, 1 at best.

    ::

        mean_i F_i,pred · F_i,true / (‖F_i,pred‖ ‖F_i,true‖)

    The mean is over atoms with all three components labelled, on which both norms are
    larger than a threshold: a force that is zero by symmetry has no direction.

    Args:
        threshold: of the norms, eV/Å.
        name: of the metric.
        dtype: of the sums.

    Call arguments:
        As for :class:`ForceMAE`.
    """

    def __init__(
        self,
        threshold: float = _COSINE_THRESHOLD,
        name: str = "cosine",
        dtype: str = "float64",
    ) -> None:
        """Create the sums."""
        super().__init__(name, dtype)
        if not threshold >= 0:
            raise ValueError(
                f"`threshold` must not be negative (eV/Å). Received: {threshold}."
            )
        self.threshold = float(threshold)

    def values(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and where there are any, both (A,)."""
        return force_cosines(y_true, y_pred, self.threshold)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="tfpes")
class MaxForceError(Metric):
    """The largest norm of the error of the force on an atom, eV/Å.

    ::

        max_i ‖F_i,pred - F_i,true‖

    A component without a label adds nothing to the norm. Weights do not scale errors,
    but a weight of 0 leaves an atom out.

    Args:
        name: of the metric.
        dtype: of the result.

    Call arguments:
        As for :class:`ForceMAE`.
    """

    def __init__(self, name: str = "max_error", dtype: str = "float64") -> None:
        """Create the state."""
        super().__init__(name=name, dtype=dtype)
        self.largest = self.add_variable((), "zeros", dtype=self.dtype, name="largest")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        """Take the larger of what was found before and what a batch holds."""
        refuse_keras_2()
        y_true, y_pred, sample_weight = flat(y_true, y_pred, sample_weight)
        error, present = force_errors(y_true, y_pred)
        square = tf.reduce_sum(error**2, axis=1)
        present = tf.reduce_any(present, axis=1)
        if sample_weight is not None:
            weight = row_weights(sample_weight, y_true, or_structures=True)
            square = tf.where(weight != 0, square, 0.0)
            present &= weight != 0
        # XLA's maximum loses a NaN; a sum keeps it. Without atoms it is -inf.
        found, total = tf.maximum(tf.reduce_max(square), 0.0), tf.reduce_sum(square)
        found = tf.where(tf.math.is_nan(total), total, found)
        found = tf.sqrt(tf.cast(found, self.dtype))
        before = tf.convert_to_tensor(self.largest)
        keep = (found <= before) | tf.math.is_nan(before)
        self.largest.assign(tf.where(keep, before, found))
        self.count.assign_add(tf.reduce_sum(tf.cast(present, self.dtype)))

    def result(self) -> Tensor:
        """Return the largest error so far; NaN without labels."""
        largest, count = map(tf.convert_to_tensor, (self.largest, self.count))
        return tf.where(count > 0, largest, float("nan"))
