"""Weights with the statistics of a data set, and what they do to labels."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS, join_symbols
from tfpes.layers.given import Given
from tfpes.layers.tensors import floats, isotropic, labels_among, split_trace
from tfpes.targets import (
    Tensor,
    atom_target,
    split_atom_target,
    split_structure_target,
    structure_target,
)

WEIGHTS = (
    *("energy_mean", "energy_variance", "collective_variance"),
    "force_scale",
    "pressure_mean",
    "pressure_scale",
    "collective_pressure_variance",
    "virial_scale",
    "collective_virial_variance",
    "seen",
)
"""Names of the weights: one number per element, but for the ``collective`` ones."""

_SIGNS_OF_STATISTICS = {
    "energy": ("energy_variance", "collective_variance"),
    "forces": ("force_scale",),
    "virial": ("virial_scale",),
}
"""The weights of each label that are all zero until there are statistics."""


class Standardization(keras.layers.Layer):
    """Standardizes labels with statistics that are given or assigned.

    The base of :class:`PESNormalization`, which also learns them.

    Args:
        given: statistics to begin with.
        invert: undo the standardization.
        **kwargs: ``name``, ``dtype``, ``trainable``.
    """

    def __init__(self, given: Given, invert: bool, **kwargs: Any) -> None:
        """Create the weights from what is given."""
        kwargs.setdefault("trainable", False)
        # Float64 energies must arrive as they are.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.invert = invert
        self._given = given
        for name in WEIGHTS:
            weight = self.add_weight(
                shape=() if name.startswith("collective") else (NUMBER_OF_COLUMNS,),
                initializer="zeros",
                dtype="float64",
                trainable=False,
                autocast=False,
                name=name,
            )
            setattr(self, name, weight)
        self.built = True
        self.assign_statistics(given.weights())

    @property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """The weights as arrays, by name."""
        return {name: getattr(self, name).numpy() for name in WEIGHTS}

    def assign_statistics(self, statistics: Mapping[str, ArrayLike]) -> None:
        """Set some or all of the weights, by name."""
        for name, value in statistics.items():
            getattr(self, name).assign(value)

    @property
    def is_adapted(self) -> bool:
        """Whether there are statistics of any label, learned or given."""
        return any(self._has_statistics(label) for label in _SIGNS_OF_STATISTICS)

    def require_adapted(self, label: str = "energy") -> None:
        """Raise a RuntimeError if there are no statistics of a label.

        Args:
            label: ``"energy"``, ``"forces"`` or ``"virial"``.
        """
        if not self._has_statistics(label):
            name = "energy_variance" if label == "energy" else f"{label}_scale"
            raise RuntimeError(
                "`PESNormalization` needs statistics before it is used. Received: a "
                f"layer without any of the key '{label}'. Call "
                f"`normalization.adapt(dataset)` with targets that have it, or pass "
                f"`{name.replace('forces', 'force')}`."
            )

    def _has_statistics(self, label: str) -> bool:
        # Also asked while a training step is traced; the weights exist outside.
        with tf.init_scope():
            signs = (getattr(self, name) for name in _SIGNS_OF_STATISTICS[label])
            return any(np.any(sign.numpy()) for sign in signs)

    def require_known(self, composition: Tensor) -> None:
        """Raise a ValueError for elements that were never seen (eagerly only)."""
        if not tf.executing_eagerly():
            return
        unseen = np.flatnonzero(self.seen.numpy() == 0)
        unseen = unseen[unseen > 0]
        # With every element seen, `unseen` is empty: a later reshape would fail.
        counts = np.asarray(composition).reshape(-1, NUMBER_OF_COLUMNS)[:, unseen]
        if counts.any():
            structure, column = np.argwhere(counts > 0)[0]
            seen = join_symbols(np.flatnonzero(self.seen.numpy())) or "none"
            culprit = join_symbols([unseen[column]])
            raise ValueError(
                f"`PESNormalization` knows the elements {seen}. Received: structure "
                f"{structure} holds {culprit}. Adapt on a data set that contains "
                f"{culprit}, or pass `energy_mean` and `energy_variance` for it."
            )

    def known(self, values: Tensor) -> Tensor:
        """Return values of elements (119,), NaN for those that were never seen.

        A compiled function cannot raise: numbers made up for them would look right.
        """
        seen = tf.convert_to_tensor(self.seen) > 0
        padding = tf.range(NUMBER_OF_COLUMNS) == 0
        nan = tf.constant(np.nan, values.dtype)
        return tf.where(seen | padding, values, nan)

    def sum_of_known(self, composition: Tensor, values: Tensor) -> Tensor:
        """Return ``Σ n_z v_z``, (S,) float64, NaN where an element was never seen.

        Raises:
            ValueError: for such an element, eagerly.
        """
        self.require_known(composition)
        composition = tf.cast(composition, tf.float64)
        # 0 × NaN is NaN: the sum of values must not hold any.
        unseen = tf.math.is_nan(self.known(tf.zeros(NUMBER_OF_COLUMNS, tf.float64)))
        columns = tf.stack([values, tf.cast(unseen, tf.float64)], axis=1)
        total, strange = tf.unstack(tf.matmul(composition, columns), axis=-1)
        return tf.where(strange > 0, tf.constant(np.nan, tf.float64), total)

    def energy_baseline(self, composition: Tensor) -> Tensor:
        """Return ``Σ n_z μ_z``, eV: (S,) float64 for a composition (S, 119)."""
        return self.sum_of_known(composition, tf.convert_to_tensor(self.energy_mean))

    def energy_scale(self, composition: Tensor) -> Tensor:
        """Return ``√(Σ n_z σ_z² + N² κ²)``, eV: (S,) float64, 1 for no atoms."""
        return self._scale(composition, self.energy_variance, self.collective_variance)

    def pressure_baseline(self, composition: Tensor) -> Tensor:
        """Return ``Σ n_z π_z``, the mean of tr W / 3, eV: (S,) float64."""
        return self.sum_of_known(composition, tf.convert_to_tensor(self.pressure_mean))

    def pressure_scale_of(self, composition: Tensor) -> Tensor:
        """Return ``√(Σ n_z τ_p,z² + N² κ_p²)`` of tr W / 3, eV: (S,) float64."""
        variance = tf.convert_to_tensor(self.pressure_scale) ** 2
        return self._scale(composition, variance, self.collective_pressure_variance)

    def virial_scale_of(self, composition: Tensor) -> Tensor:
        """Return ``√(Σ n_z τ_z² + N² κ_d²)`` of W without its trace, eV: (S,)."""
        variance = tf.convert_to_tensor(self.virial_scale) ** 2
        return self._scale(composition, variance, self.collective_virial_variance)

    def _scale(
        self, composition: Tensor, variance: Tensor, collective: Tensor
    ) -> Tensor:
        total = self.sum_of_known(composition, tf.convert_to_tensor(variance))
        size = tf.reduce_sum(tf.cast(composition, tf.float64), axis=-1)
        total += size**2 * tf.convert_to_tensor(collective)
        return tf.sqrt(tf.where(size > 0, total, 1.0))

    def force_scale_of(self, atomic_numbers: Tensor) -> Tensor:
        """Return η_z of each atom, eV/Å: (A,) or (B, N) float64."""
        scale = self.known(tf.convert_to_tensor(self.force_scale))
        return tf.gather(scale, tf.cast(atomic_numbers, tf.int32))

    def atomic_energy_scale(self) -> Tensor:
        """Return ``√(σ_z² + κ²)``, the spread of one atom, eV: (119,), 0 at Z = 0."""
        kappa = tf.convert_to_tensor(self.collective_variance)
        scale = tf.sqrt(tf.convert_to_tensor(self.energy_variance) + kappa)
        return tf.where(tf.range(NUMBER_OF_COLUMNS) > 0, self.known(scale), 0.0)

    def standardize_energy(self, energy: Tensor, composition: Tensor) -> Tensor:
        """Return ``E' = (E - baseline) / scale``, (S,) float64."""
        shifted = floats(energy, tf.float64) - self.energy_baseline(composition)
        return shifted / self.energy_scale(composition)

    def destandardize_energy(self, energy: Tensor, composition: Tensor) -> Tensor:
        """Undo :meth:`standardize_energy`, (S,) float64 eV."""
        scaled = floats(energy, tf.float64) * self.energy_scale(composition)
        return scaled + self.energy_baseline(composition)

    def standardize_forces(self, forces: Tensor, atomic_numbers: Tensor) -> Tensor:
        """Return ``F' = F / η_z``, (A, 3) or (B, N, 3), in the dtype of the forces."""
        forces, scale = floats(forces), self.force_scale_of(atomic_numbers)
        return forces / tf.cast(scale[..., None], forces.dtype)

    def destandardize_forces(self, forces: Tensor, atomic_numbers: Tensor) -> Tensor:
        """Undo :meth:`standardize_forces`, (A, 3) or (B, N, 3) eV/Å."""
        forces, scale = floats(forces), self.force_scale_of(atomic_numbers)
        return forces * tf.cast(scale[..., None], forces.dtype)

    def standardize_virial(self, virial: Tensor, composition: Tensor) -> Tensor:
        """Return ``W' = p'/√3 + D'``, (S, 3, 3) float64, of unit variance six times.

        ``W = p + D``, ``p = tr W / 3``; ``p' = (p - Σ n_z π_z) / s_p``; ``D' = D/s_d``.
        p' counts as much as each of the five components of D': ``‖W'‖² = p'² + ‖D'‖²``.
        """
        pressure, deviator = split_trace(floats(virial, tf.float64))
        pressure = pressure - self.pressure_baseline(composition)
        pressure = pressure / self.pressure_scale_of(composition)
        scale = self.virial_scale_of(composition)[:, None, None]
        return deviator / scale + isotropic(pressure / 3**0.5)

    def destandardize_virial(self, virial: Tensor, composition: Tensor) -> Tensor:
        """Undo :meth:`standardize_virial`, (S, 3, 3) float64 eV."""
        pressure, deviator = split_trace(floats(virial, tf.float64))
        pressure = pressure * 3**0.5 * self.pressure_scale_of(composition)
        scale = self.virial_scale_of(composition)[:, None, None]
        baseline = self.pressure_baseline(composition)
        return deviator * scale + isotropic(pressure + baseline)

    def call(self, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Standardize the labels among targets, or undo it (``invert=True``)."""
        prefix = "destandardize" if self.invert else "standardize"
        labels, outputs = labels_among(targets), dict(targets)
        for key in labels:
            target = targets[key]
            self.require_adapted(key)
            change = getattr(self, f"{prefix}_{key}")
            if key == "forces":
                values, numbers, index = split_atom_target(target)
                outputs[key] = atom_target(change(values, numbers), numbers, index)
            else:
                values, counts = split_structure_target(target)
                outputs[key] = structure_target(change(values, counts), counts)
        return outputs

    def compute_output_spec(
        self, targets: dict[str, Tensor]
    ) -> dict[str, keras.KerasTensor]:
        """Return the specification of the inputs: nothing changes shape."""
        return {key: keras.KerasTensor(t.shape, t.dtype) for key, t in targets.items()}

    def get_config(self) -> dict[str, Any]:
        """Return what is given, and the statistics as they are now."""
        given, invert = self._given.as_dict(), self.invert
        config = {**super().get_config(), **given, "invert": invert}
        if self.is_adapted:
            statistics = self.statistics.items()
            config["statistics"] = {name: value.tolist() for name, value in statistics}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from what :meth:`get_config` returned."""
        config = dict(config)
        statistics = config.pop("statistics", {})
        layer = cls(**config)
        layer.assign_statistics(statistics)
        return layer

    def save_own_variables(self, store: Any) -> None:
        """Store the statistics under their names."""
        for name, value in self.statistics.items():
            store[name] = value

    def load_own_variables(self, store: Any) -> None:
        """Load the statistics.

        Raises:
            ValueError: if one of them is missing. The layer is then unchanged.
        """
        stored = set(store.keys())
        if not stored and self.is_adapted:
            # Keras stores a layer that a model and its losses share only once; the
            # copy of a loss has its statistics from its configuration.
            return
        missing = [name for name in WEIGHTS if name not in stored]
        if missing:
            raise ValueError(
                f"A file of this layer holds {', '.join(WEIGHTS)}. Received: one "
                f"without {', '.join(missing)}. It was not written by this class."
            )
        self.assign_statistics({name: np.asarray(store[name]) for name in WEIGHTS})
