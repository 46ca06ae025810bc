"""Tensors of floating point numbers, and their parts under rotation."""

from typing import Any

import tensorflow as tf

from tfpes.targets import Tensor


def labels_among(targets: Any) -> list[str]:
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


def split_trace(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return a third of the trace, (S,), and what is without trace, (S, 3, 3)."""
    third = tf.linalg.trace(tensor) / 3
    return third, tensor - isotropic(third)


def isotropic(values: Tensor) -> Tensor:
    """Return numbers (S,) times unit matrices, (S, 3, 3)."""
    return values[:, None, None] * tf.eye(3, dtype=values.dtype)


def floats(values: Tensor, dtype: tf.DType | None = None) -> Tensor:
    """Return a tensor of floating point numbers, by default in the dtype they have."""
    # TensorFlow alone would round Python's numbers to float32.
    hint = None if hasattr(values, "dtype") else tf.float64
    tensor = tf.convert_to_tensor(values, dtype_hint=hint)
    if dtype is None and not tensor.dtype.is_floating:
        dtype = tf.float64
    return tensor if dtype is None else tf.cast(tensor, dtype)
