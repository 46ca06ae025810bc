"""The fraction of structures that are right, energy and forces together."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.metrics.forces import force_errors
from tfpes.metrics.mean_metric import MeanMetric
from tfpes.metrics.structure_errors import energy_errors
from tfpes.targets import Tensor, flat, row_weights, split_atom_target

_ENERGY_THRESHOLD = 0.02
_FORCE_THRESHOLD = 0.03


def within_thresholds(
    y_true: dict[str, Tensor],
    y_pred: dict[str, Tensor],
    energy_threshold: float = _ENERGY_THRESHOLD,
    force_threshold: float = _FORCE_THRESHOLD,
) -> tuple[Tensor, Tensor]:
    """Return whether energy and forces of each structure are within thresholds.

    Arguments are those of :class:`EFwT`.

    Returns:
        Which structures are right, and which count; both (S,) bool.
    """
    error, present = energy_errors(y_true["energy"], y_pred["energy"], per_atom=False)
    right = tf.abs(error) < energy_threshold
    size = error.shape[0] or tf.size(error)
    error, labelled = force_errors(y_true["forces"], y_pred["forces"])
    # Not a maximum, which may lose a prediction of NaN.
    wrong = tf.reduce_any(~(tf.abs(error) < force_threshold), axis=1)
    flags = tf.stack([wrong, tf.reduce_any(labelled, axis=1)], axis=1)
    index = split_atom_target(tf.convert_to_tensor(y_true["forces"]))[2]
    found = tf.math.unsorted_segment_sum(tf.cast(flags, tf.int32), index, size) > 0
    present &= found[:, 1]
    return right & ~found[:, 0] & present, present


@keras.saving.register_keras_serializable(package="tfpes")
class EFwT(MeanMetric):
    """Fraction of structures with energy and forces within thresholds.

    ::

        mean_s [ |E_s,pred - E_s,true| < ε  and  max_i∈s,c |F_ic,pred - F_ic,true| < φ ]

    The energy is that of the whole structure, not per atom, and the largest force error
    is that of a component. Structures count that have an energy and at least one
    force component; components without a label add nothing.

    It needs two outputs at once, and Keras hands a metric in ``compile(metrics=...)``
    only one. It is therefore called with dicts, as in a custom training loop,
    or in ``fit`` through the method that Keras has for this::

        class Model(tfpes.models.Potential):
            def compute_metrics(self, x, y, y_pred, sample_weight=None):
                self.efwt.update_state(y, y_pred)
                return super().compute_metrics(x, y, y_pred, sample_weight)

    with ``model.efwt = tfpes.metrics.EFwT()``. ``tfpes.evaluate`` reports it always.

    Args:
        energy_threshold: ε, eV.
        force_threshold: φ, eV/Å.
        name: of the metric.
        dtype: of the sums.

    Call arguments:
        y_true: a dict of packed targets with the keys ``energy`` and ``forces``.
        y_pred: a dict of predictions with these keys; others are ignored.
        sample_weight: (S,), or a dict with such an entry ``energy``; optional.

    Reference:
        Chanussot et al., ACS Catal. 11, 6059 (2021), "EFwT" of the Open Catalyst
        dataset; the defaults are those of its evaluation.
    """

    def __init__(
        self,
        energy_threshold: float = _ENERGY_THRESHOLD,
        force_threshold: float = _FORCE_THRESHOLD,
        name: str = "efwt",
        dtype: str = "float64",
    ) -> None:
        """Check the thresholds and create the sums."""
        super().__init__(name, dtype)
        if not (energy_threshold > 0 and force_threshold > 0):
            raise ValueError(
                "`energy_threshold` (eV) and `force_threshold` (eV/Å) must be "
                f"positive. Received: {energy_threshold} and {force_threshold}."
            )
        self.energy_threshold = float(energy_threshold)
        self.force_threshold = float(force_threshold)

    def update_state(
        self,
        y_true: dict[str, Tensor],
        y_pred: dict[str, Tensor],
        sample_weight: Tensor | dict[str, Tensor] | None = None,
    ) -> None:
        """Add a batch.

        Raises:
            TypeError: if targets and predictions are not dicts with both keys.
            ValueError: for shapes that do not fit.
        """
        for name, value in (("y_true", y_true), ("y_pred", y_pred)):
            if not isinstance(value, dict) or not {"energy", "forces"} <= value.keys():
                found = sorted(value) if isinstance(value, dict) else type(value)
                raise TypeError(
                    f"`EFwT` takes dicts with the keys 'energy' and 'forces'. Received "
                    f"`{name}`: {found}. In `compile(metrics=...)` a metric gets one "
                    "output only: override `compute_metrics`, see the documentation of "
                    "`EFwT`, or use `tfpes.evaluate`."
                )
        if isinstance(sample_weight, dict):
            sample_weight = sample_weight.get("energy")
        super().update_state(y_true, y_pred, sample_weight)

    def rows(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, ...]:
        """Return the arguments with atoms as rows."""
        target, pred, _ = flat(y_true["forces"], y_pred["forces"])
        y_true, y_pred = {**y_true, "forces": target}, {**y_pred, "forces": pred}
        return y_true, y_pred, sample_weight

    def weights(self, y_true: dict[str, Tensor], sample_weight: Tensor) -> Tensor:
        """Return one weight per structure, (S,)."""
        return row_weights(sample_weight, y_true["energy"])

    def values(
        self, y_true: dict[str, Tensor], y_pred: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return whether structures are right, and which count, both (S,)."""
        return within_thresholds(
            y_true, y_pred, self.energy_threshold, self.force_threshold
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "energy_threshold": self.energy_threshold,
            "force_threshold": self.force_threshold,
        }
