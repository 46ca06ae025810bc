"""Weights with the statistics of a data set, and what they do to labels."""

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.layers.given import Given
from tfpes.statistics import Statistics
from tfpes.statistics.standardize import NAMES, Laws
from tfpes.targets import (
    Tensor,
    atom_target,
    split_atom_target,
    split_structure_target,
    structure_target,
)

_SIGNS_OF_STATISTICS = {
    "energy": ("energy_variance", "collective_variance"),
    "forces": ("force_scale",),
    "virial": ("virial_scale",),
}
"""The weights of each label that are all zero until there are statistics."""


class Standardization(Laws, keras.layers.Layer):
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
        for name in NAMES:
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
    def statistics(self) -> Statistics:
        """The weights as arrays, by name, and the same formulas in NumPy."""
        return Statistics({name: getattr(self, name).numpy() for name in NAMES})

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
        if tf.executing_eagerly():
            super().require_known(composition)

    def value(self, name: str) -> Tensor:
        """Return a weight as it is now."""
        return tf.convert_to_tensor(getattr(self, name))

    def floats(self, values: Tensor, like: Tensor = None) -> Tensor:
        """Return a tensor of floating point numbers."""
        # TensorFlow alone would round Python's numbers to float32.
        hint = None if hasattr(values, "dtype") else tf.float64
        tensor = tf.convert_to_tensor(values, dtype_hint=hint)
        if like is not None:
            return tf.cast(tensor, like.dtype)
        return tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.float64)

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

    def size(self, composition: Tensor) -> Tensor:
        """Return the number of atoms, (S,) float64."""
        return tf.reduce_sum(tf.cast(composition, tf.float64), axis=-1)

    def root(self, square: Tensor, size: Tensor) -> Tensor:
        """Return the root, 1 for no atoms."""
        return tf.sqrt(tf.where(size > 0, square, 1.0))

    def force_scale_of(self, atomic_numbers: Tensor) -> Tensor:
        """Return η_z of each atom, eV/Å: (A,) or (B, N) float64."""
        scale = self.known(tf.convert_to_tensor(self.force_scale))
        return tf.gather(scale, tf.cast(atomic_numbers, tf.int32))

    def atomic_energy_scale(self) -> Tensor:
        """Return ``√(σ_z² + κ²)``, the spread of one atom, eV: (119,), 0 at Z = 0."""
        kappa = tf.convert_to_tensor(self.collective_variance)
        scale = tf.sqrt(tf.convert_to_tensor(self.energy_variance) + kappa)
        return tf.where(tf.range(NUMBER_OF_COLUMNS) > 0, self.known(scale), 0.0)

    def call(self, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Standardize the labels among targets, or undo it (``invert=True``)."""
        prefix = "destandardize" if self.invert else "standardize"
        labels, outputs = _labels_among(targets), dict(targets)
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
        missing = [name for name in NAMES if name not in stored]
        if missing:
            raise ValueError(
                f"A file of this layer holds {', '.join(NAMES)}. Received: one "
                f"without {', '.join(missing)}. It was not written by this class."
            )
        self.assign_statistics({name: np.asarray(store[name]) for name in NAMES})


def _labels_among(targets: Any) -> list[str]:
    """Return the keys of targets that have labels.

    Raises:
        TypeError: for anything but a dict.
        ValueError: if it has none of them.
    """
    if not isinstance(targets, dict):
        raise TypeError(
            "`PESNormalization` takes the targets of a batch, a dict. Received: "
            f"{type(targets).__name__}. For energies alone, which do not tell their "
            "composition, use `standardize_energy(energy, composition)`."
        )
    labels = [key for key in ("energy", "forces", "virial") if key in targets]
    if not labels:
        raise ValueError(
            "`PESNormalization` standardizes the keys 'energy', 'forces' and 'virial'. "
            f"Received: {', '.join(map(repr, targets))}."
        )
    return labels
