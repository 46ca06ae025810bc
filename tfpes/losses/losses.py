"""Losses of standardized labels for ``compile(loss=...)``."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.losses.elementwise import Metric
from tfpes.losses.standardized_loss import StandardizedLoss
from tfpes.targets import Tensor, split_atom_target

_AVERAGES = ("atoms", "structures")

_ATOMS = 100
"""Size of the structure that a warning takes as an example."""


@keras.saving.register_keras_serializable(package="tfpes")
class EnergyLoss(StandardizedLoss):
    """Mean metric of standardized total energies.

        loss = mean_s metric(E'_s,true, E'_s,pred),
        E' = (E - Σ n_z μ_z) / √(Σ n_z σ_z² + N² κ²)

    The mean is over the structures that have an energy. No loss depends on units. The
    mean square of E' does not depend on the size or the composition of a structure;
    the mean of another metric only as far as E' has one distribution for all.

    Args:
        normalization: the adapted :class:`tfpes.layers.PESNormalization`. The scale
            is read from its variables each time, so that a later ``adapt`` is seen.
        metric: ``"mse"``, ``"mae"``, ``"huber"``, ``"log_cosh"``, or an element-wise
            function of (standardized_true, standardized_pred).
        delta: of ``"huber"``, in standard deviations. With 3, good labels are as with
            ``"mse"``.
        reduction: ``"sum_over_batch_size"`` or ``"mean"`` (the weighted sum divided by
            the number of labels; weights do not change the divisor),
            ``"mean_with_sample_weight"`` (divided by the sum of the weights of
            labels), ``"sum"`` or ``"none"`` (one number per structure).
        name: of the loss; ``"energy_loss"``.
        dtype: of the arithmetic; float64, because total energies are large.

    Call arguments:
        y_true: (S, 2 + 119) float64 from ``tfpes.targets.structure_target``.
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

    key = "energy"
    _warned: frozenset[str] = frozenset()

    def errors(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors and where labels are, both (S,)."""
        # Packed labels of float32 have their last digits in a column of their own.
        for values, what, enough in ((y_true, "labels", 4), (y_pred, "predictions", 8)):
            dtype = tf.convert_to_tensor(values).dtype
            if dtype.size < enough:
                self._warn_of_rounding(dtype, what)
        return super().errors(y_true, y_pred)

    # AutoGraph would turn `if` into an operation and warn in any case.
    @tf.autograph.experimental.do_not_convert
    def _warn_of_rounding(self, dtype: tf.DType, what: str) -> None:
        """Warn once if numbers of this type are too coarse for total energies."""
        if what in self._warned:
            return
        # Also reached while a training step is traced; the weights exist outside.
        with tf.init_scope():
            norm = self.normalization
            # Elements that were never seen have no mean of their own.
            mean = np.abs(norm.energy_mean.numpy()) * (norm.seen.numpy() > 0)
            heaviest = np.zeros((1, len(mean)))
            heaviest[0, np.argmax(mean)] = _ATOMS
            spread = float(norm.energy_scale(heaviest)[0])
        energy = _ATOMS * mean.max()
        digits = {tf.float32: 24, tf.float16: 11}.get(dtype, 8)
        rounding = float(np.ldexp(0.5, np.frexp(energy)[1] - digits))
        if rounding > 1e-3 * spread:
            self._warned |= {what}
            warnings.warn(
                f"Total energies are float64. Received: {what} of {dtype.name}, which "
                f"rounds the energy of {_ATOMS} atoms, {energy:.3g} eV, by up to "
                f"{rounding:.2g} eV; their spread is {spread:.2g} eV. Keep energies in "
                "float64 from the file to the loss.",
                stacklevel=2,
            )


@keras.saving.register_keras_serializable(package="tfpes")
class ForceLoss(StandardizedLoss):
    """Mean metric of standardized forces.

        loss = mean_i,c metric(F'_ic,true, F'_ic,pred),          average="atoms"
        loss = mean_s mean_i∈s,c metric(F'_ic,true, F'_ic,pred), average="structures"
        F'_i = F_i / η_z

    Means are over the components that have a label, and over the structures that have
    any. With ``average="structures"`` a structure counts once, however many atoms it
    has. The metric ``"l2"`` is one number per atom, ``‖F'_pred - F'_true‖``, which
    does not depend on the orientation of the structure.

    Args:
        normalization: the adapted :class:`tfpes.layers.PESNormalization`.
        metric: ``"mse"``, ``"mae"``, ``"huber"``, ``"log_cosh"``, ``"l2"``, or an
            element-wise function of (standardized_true, standardized_pred).
        average: ``"atoms"`` or ``"structures"``.
        delta: of ``"huber"``, in standard deviations. With 3, good labels are as with
            ``"mse"``.
        reduction: as for :class:`EnergyLoss`; what is counted are components (atoms
            for ``"l2"``), or structures. With ``"none"``, a loss per atom, (A,) or (B,
            N), or per structure: (B,), or (A,) with the structures first, then zeros.
        name: of the loss; ``"force_loss"``.
        dtype: of the reduction, Keras's ``floatx`` by default.

    Call arguments:
        y_true: (A, 3 + 2) or (B, N, 3 + 1) from ``tfpes.targets.atom_target``.
        y_pred: (A, 3) or (B, N, 3), or that and a last 1, eV/Å.
        sample_weight: (A,), or (S,) with ``average="structures"``, whose weight is then
            that of all its atoms; (B, N) or (B,) for dense batches. Optional.
    """

    key = "forces"

    def __init__(
        self,
        normalization: PESNormalization,
        metric: str | Metric = "mse",
        average: str = "atoms",
        delta: float = 3.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        """Check and remember the arguments."""
        super().__init__(normalization, metric, delta, reduction, name, dtype)
        if average not in _AVERAGES:
            raise ValueError(
                f"`average` must be one of {_AVERAGES}. Received: {average!r}."
            )
        self.average = average

    def groups(self, y_true: Tensor, *sums: Tensor) -> tuple[Tensor, ...]:
        """Average within each structure first, if asked for."""
        if self.average == "atoms":
            return sums
        # A target does not tell the number of structures; there are as many as atoms
        # at most. Only padding, which has no label, can belong to a later one:
        # structures that have atoms come first.
        index = split_atom_target(tf.convert_to_tensor(y_true))[2]
        size = index.shape[0] or tf.size(index)
        index = tf.minimum(index, size - 1)
        sums = tf.math.unsorted_segment_sum(tf.stack(sums, axis=1), index, size)
        error, weight, count = tf.unstack(sums, axis=1)
        return (
            tf.math.divide_no_nan(error, count),
            tf.math.divide_no_nan(weight, count),
            tf.cast(count > 0, count.dtype),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "average": self.average}


@keras.saving.register_keras_serializable(package="tfpes")
class VirialLoss(StandardizedLoss):
    """Mean metric of standardized virials.

        loss = mean_s,c metric(W'_sc,true, W'_sc,pred)

    The mean is over the six components that have a label: the pressure, ``p = tr W /
    3``, in units of its own spread, and five of ``W - p`` in units of theirs. With one
    scale for both, the loss of a set of strained cells would see the pressure alone.
    A rotation changes neither the mean square nor the metric ``"l2"``, which is one
    number per structure, the norm ``‖W'_pred - W'_true‖``.

    Arguments are those of :class:`EnergyLoss`, with a metric as for
    :class:`ForceLoss`; a reduction counts components (structures for ``"l2"``). The
    name is ``"virial_loss"``.

    Call arguments:
        y_true: (S, 9 + 119) float64 from ``tfpes.targets.structure_target``.
        y_pred: (S, 3, 3) or (S, 3, 3, 1), eV; the virial is ``-dE/dε = -V · stress``.
        sample_weight: (S,), optional.
    """

    key = "virial"
