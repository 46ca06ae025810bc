"""Weights with the statistics of a data set, and what they do to labels."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.elements import (
    NUMBER_OF_COLUMNS,
    by_atomic_number,
    by_symbol,
    join_symbols,
)
from tfpes.targets import (
    atom_target,
    split_atom_target,
    split_structure_target,
    structure_target,
)

Values = Mapping[str | int, float] | NDArray | None
"""One number per element: a mapping of symbol or Z, or an array (119,)."""

WEIGHTS = {
    "energy_mean": True,
    "energy_variance": True,
    "collective_variance": False,
    "force_scale": True,
    "virial_scale": True,
    "seen": True,
}
"""Names of the weights, and whether they have one number per element."""

_SIGN_OF_STATISTICS = {
    "energy": "seen",
    "forces": "force_scale",
    "virial": "virial_scale",
}
"""The weight of each label that is zero until there are statistics."""


class Standardization(keras.layers.Layer):
    """Standardizes labels with statistics that are given or assigned.

    The base of :class:`PESNormalization`, which also learns them.

    Args:
        given: values of ``energy_mean``, ``energy_variance``, ``force_scale`` and
            ``virial_scale``, or None.
        collective_variance: κ², eV².
        invert: undo the standardization.
        **kwargs: ``name``, ``dtype``, ``trainable``.
    """

    def __init__(
        self,
        given: dict[str, Values],
        collective_variance: float | None,
        invert: bool,
        **kwargs: Any,
    ) -> None:
        """Create the weights from what is given."""
        kwargs.setdefault("trainable", False)
        # Float64 energies must arrive as they are.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.invert = invert
        self._given = {
            name: np.full(NUMBER_OF_COLUMNS, np.nan)
            if values is None
            else _check_given(by_atomic_number(values, name), name)
            for name, values in given.items()
        }
        if collective_variance is not None and not collective_variance >= 0:
            raise ValueError(
                "`collective_variance` must not be negative (eV²). Received: "
                f"{collective_variance}."
            )
        self._given_collective = collective_variance
        for name, per_atom in WEIGHTS.items():
            shape = (NUMBER_OF_COLUMNS,) if per_atom else ()
            weight = self.add_weight(
                shape=shape,
                initializer="zeros",
                dtype="float64",
                trainable=False,
                autocast=False,
                name=name,
            )
            setattr(self, name, weight)
        self.built = True
        self._assign_given()

    def _assign_given(self) -> None:
        """Set the weights to what is given; what is not takes the mean of it."""
        for name, given in self._given.items():
            known = given[~np.isnan(given)]
            # A scale of 0 says that there is none yet.
            default = 1.0 if name == "energy_variance" else 0.0
            fill = known.mean() if len(known) else default
            values = np.where(np.isnan(given), fill, given)
            if name.startswith("energy"):
                values = without_padding(values)
            getattr(self, name).assign(values)
        self.collective_variance.assign(self._given_collective or 0.0)
        given = ~np.isnan(self._given["energy_variance"])
        self.seen.assign(given.astype(np.float64))

    @property
    def is_adapted(self) -> bool:
        """Whether there are statistics of any label, learned or given."""
        return any(self._has_statistics(label) for label in _SIGN_OF_STATISTICS)

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
            return bool(np.any(getattr(self, _SIGN_OF_STATISTICS[label]).numpy()))

    def energy_baseline(self, composition: Any) -> Any:
        """Return ``Σ n_z μ_z``, eV: (S,) float64 for a composition (S, 119)."""
        composition = self._known(composition)
        return tf.linalg.matvec(composition, tf.convert_to_tensor(self.energy_mean))

    def energy_scale(self, composition: Any) -> Any:
        """Return ``√(Σ n_z σ_z² + N² κ²)``, eV: (S,) float64, 1 for no atoms."""
        composition = self._known(composition)
        size = tf.reduce_sum(composition, axis=-1)
        variance = tf.linalg.matvec(
            composition, tf.convert_to_tensor(self.energy_variance)
        ) + size**2 * tf.convert_to_tensor(self.collective_variance)
        return tf.sqrt(tf.where(size > 0, variance, 1.0))

    def virial_scale_of(self, composition: Any) -> Any:
        """Return ``√(Σ n_z τ_z²)``, eV: (S,) float64, 1 for no atoms."""
        composition = self._known(composition)
        squares = tf.convert_to_tensor(self.virial_scale) ** 2
        variance = tf.linalg.matvec(composition, squares)
        return tf.sqrt(tf.where(tf.reduce_sum(composition, axis=-1) > 0, variance, 1.0))

    def force_scale_of(self, atomic_numbers: Any) -> Any:
        """Return η_z of each atom, eV/Å: (A,) float64."""
        atomic_numbers = tf.cast(atomic_numbers, tf.int32)
        return tf.gather(tf.convert_to_tensor(self.force_scale), atomic_numbers)

    def atomic_energy_scale(self) -> Any:
        """Return ``√(σ_z² + κ²)``, the spread of one atom, eV: (119,), 0 at Z = 0."""
        kappa = tf.convert_to_tensor(self.collective_variance)
        scale = tf.sqrt(tf.convert_to_tensor(self.energy_variance) + kappa)
        return tf.where(tf.range(NUMBER_OF_COLUMNS) > 0, scale, 0.0)

    def standardize_energy(self, energy: Any, composition: Any) -> Any:
        """Return ``E' = (E - baseline) / scale``, (S,) float64."""
        shifted = tf.cast(energy, tf.float64) - self.energy_baseline(composition)
        return shifted / self.energy_scale(composition)

    def destandardize_energy(self, energy: Any, composition: Any) -> Any:
        """Undo :meth:`standardize_energy`, (S,) float64 eV."""
        scaled = tf.cast(energy, tf.float64) * self.energy_scale(composition)
        return scaled + self.energy_baseline(composition)

    def standardize_forces(self, forces: Any, atomic_numbers: Any) -> Any:
        """Return ``F' = F / η_z``, (A, 3), in the dtype of the forces."""
        forces = tf.convert_to_tensor(forces)
        scale = self.force_scale_of(atomic_numbers)[:, None]
        return forces / tf.cast(scale, forces.dtype)

    def destandardize_forces(self, forces: Any, atomic_numbers: Any) -> Any:
        """Undo :meth:`standardize_forces`, (A, 3) eV/Å."""
        forces = tf.convert_to_tensor(forces)
        scale = self.force_scale_of(atomic_numbers)[:, None]
        return forces * tf.cast(scale, forces.dtype)

    def standardize_virial(self, virial: Any, composition: Any) -> Any:
        """Return ``W' = W / √(Σ n_z τ_z²)``, (S, 3, 3) float64."""
        scale = self.virial_scale_of(composition)[:, None, None]
        return tf.cast(virial, tf.float64) / scale

    def destandardize_virial(self, virial: Any, composition: Any) -> Any:
        """Undo :meth:`standardize_virial`, (S, 3, 3) float64 eV."""
        scale = self.virial_scale_of(composition)[:, None, None]
        return tf.cast(virial, tf.float64) * scale

    def call(self, targets: dict[str, Any]) -> dict[str, Any]:
        """Standardize the labels of packed targets, or undo it (``invert=True``)."""
        prefix = "destandardize" if self.invert else "standardize"
        outputs = {}
        for key, target in targets.items():
            if key not in ("energy", "forces", "virial"):
                raise ValueError(
                    "`PESNormalization` standardizes the keys 'energy', 'forces' and "
                    f"'virial'. Received: {key!r}."
                )
            self.require_adapted(key)
            change = getattr(self, f"{prefix}_{key}")
            if key == "forces":
                values, numbers, index = split_atom_target(target)
                outputs[key] = atom_target(change(values, numbers), numbers, index)
            else:
                values, composition = split_structure_target(target)
                outputs[key] = structure_target(
                    change(values, composition), composition
                )
        return outputs

    def compute_output_spec(self, targets: dict[str, Any]) -> dict[str, Any]:
        """Return the specification of the inputs: nothing changes shape."""
        return {key: keras.KerasTensor(t.shape, t.dtype) for key, t in targets.items()}

    def require_known(self, composition: Any) -> None:
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

    def _known(self, composition: Any) -> Any:
        """Return float64 counts of elements that were seen."""
        self.require_known(composition)
        return tf.cast(composition, tf.float64)


def without_padding(values: NDArray) -> NDArray:
    """Set the number of padding atoms, Z = 0, to 0."""
    return np.where(np.arange(NUMBER_OF_COLUMNS) > 0, values, 0.0)


def _check_given(values: NDArray, name: str) -> NDArray:
    known = values[~np.isnan(values)]
    positive = name != "energy_mean"
    if not np.isfinite(known).all() or (positive and (known <= 0).any()):
        raise ValueError(
            f"`{name}` must be finite{' and positive' if positive else ''}. Received: "
            f"{by_symbol(values)}."
        )
    return values
