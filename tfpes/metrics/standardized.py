"""Errors in units of the spread of the labels."""

from typing import Any

import keras

from tfpes.layers import PESNormalization
from tfpes.losses.standardized_errors import ERRORS
from tfpes.metrics.mean_metric import MeanMetric
from tfpes.targets import Tensor


@keras.saving.register_keras_serializable(package="tfpes")
class StandardizedRMSE(MeanMetric):
    """Root mean square error of standardized labels: errors in units of their spread.

    ::

        √(mean_s (E'_s,pred - E'_s,true)²),     E' = (E - Σ n_z μ_z) / √(Σ n_z σ_z² + N² κ²)
        √(mean_i,c (F'_ic,pred - F'_ic,true)²), F' = F / η_z
        √(mean_s,c (W'_sc,pred - W'_sc,true)²), W' as in VirialLoss, 6 components

    1 is what predicting the mean gives, 0 is exact, for any data set in any units. It
    is the root of the loss with the metric ``"mse"``, without weights.

    Args:
        normalization: the adapted :class:`tfpes.layers.PESNormalization`.
        key: ``"energy"``, ``"forces"`` or ``"virial"``.
        name: of the metric.
        dtype: of the sums.

    Call arguments:
        y_true: the packed target of the key, see :mod:`tfpes.targets`.
        y_pred: the prediction of the key.
        sample_weight: one weight per row (per atom or structure for forces), optional.

    Raises:
        RuntimeError: when used, if the normalization has no statistics of the key.

    Example:
        >>> import tfpes
        >>> norm = tfpes.layers.PESNormalization(
        ...     energy_mean={"H": -1.0}, energy_variance={"H": 0.02}
        ... )
        >>> counts = tfpes.targets.composition([1, 1], [0, 0], 1)
        >>> label = tfpes.targets.structure_target([-2.0], counts)
        >>> metric = StandardizedRMSE(norm, "energy")
        >>> metric.update_state(label, [-1.8])
        >>> round(float(metric.result()), 6)
        1.0
    """  # noqa: E501

    root = True

    def __init__(
        self,
        normalization: PESNormalization,
        key: str,
        name: str = "standardized_rmse",
        dtype: str = "float64",
    ) -> None:
        """Check the key and create the sums."""
        super().__init__(name, dtype)
        if key not in ERRORS:
            raise ValueError(f"`key` must be one of {(*ERRORS,)}. Received: {key!r}.")
        self.normalization = normalization
        self.key = key

    def values(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared standardized errors and where labels are."""
        self.normalization.require_adapted(self.key)
        return ERRORS[self.key](self.normalization, y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "normalization": keras.saving.serialize_keras_object(self.normalization),
            "key": self.key,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StandardizedRMSE":
        """Make a metric from what :meth:`get_config` returned."""
        layer = keras.saving.deserialize_keras_object(config["normalization"])
        return cls(**{**config, "normalization": layer})
