"""Geometry of edges: vectors, distances, radial bases and cutoff functions."""

import math

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.targets import Tensor

_CUTOFF_FUNCTIONS = ("cosine", "polynomial")


def edge_vectors(inputs: dict[str, Tensor]) -> Tensor:
    """Return the vector from centre i to neighbour j of each edge.

    ``v = positions[j] + edge_shift @ cell - positions[i]``

    Args:
        inputs: dict of ``positions`` (A, 3) Å, ``structure_index`` (A,), ``cell``
            (S, 3, 3) Å, ``edge_index`` (2, P), ``edge_shift`` (P, 3).

    Returns:
        (P, 3), Å.
    """
    centre, neighbour = inputs["edge_index"][0], inputs["edge_index"][1]
    positions = inputs["positions"]
    cell = tf.gather(inputs["cell"], tf.gather(inputs["structure_index"], centre))
    shift = tf.reduce_sum(inputs["edge_shift"][:, :, None] * cell, axis=1)
    return tf.gather(positions, neighbour) - tf.gather(positions, centre) + shift


def safe_norm(vectors: Tensor) -> Tensor:
    """Return lengths, (P,), with gradient 0 instead of NaN at length 0."""
    squared = tf.reduce_sum(vectors**2, axis=-1)
    return tf.sqrt(tf.maximum(squared, 1e-12))


def cutoff_function(distance: Tensor, cutoff: float, kind: str = "cosine") -> Tensor:
    """Switch interactions off smoothly at the cutoff.

    With ``x = distance / cutoff < 1``, and 0 beyond:

    - ``"cosine"``: ``(cos(π x) + 1) / 2``; value and slope are continuous (Behler,
      J. Chem. Phys. 134, 074106 (2011)).
    - ``"polynomial"``: ``1 - 28 x⁶ + 48 x⁷ - 21 x⁸``; value, slope and curvature are
      continuous (Gasteiger et al., Directional Message Passing, ICLR 2020).

    Args:
        distance: (P,), Å.
        cutoff: Å.
        kind: ``"cosine"`` or ``"polynomial"``.

    Returns:
        (P,) from 1 to 0.

    Raises:
        ValueError: for an unknown kind.
    """
    check_cutoff_function(kind)
    x = tf.minimum(distance / cutoff, 1.0)
    if kind == "cosine":
        return 0.5 * (tf.cos(math.pi * x) + 1.0)
    return 1.0 - x**6 * (28.0 - 48.0 * x + 21.0 * x**2)


def check_cutoff_function(kind: str) -> None:
    """Raise a ValueError for an unknown kind of cutoff function."""
    if kind not in _CUTOFF_FUNCTIONS:
        raise ValueError(
            f"`cutoff_function` must be one of {_CUTOFF_FUNCTIONS}. Received: {kind!r}."
        )


def cutoff_derivatives(distance: NDArray, cutoff: float, kind: str) -> NDArray:
    """Return the cutoff function, its slope and its curvature, (3, P) float64."""
    x = distance / cutoff
    if kind == "cosine":
        value, slope = 0.5 * (np.cos(math.pi * x) + 1.0), -0.5 * np.sin(math.pi * x)
        curvature = -0.5 * np.cos(math.pi * x)
        scale = math.pi / cutoff
    else:
        polynomial = np.polynomial.Polynomial([1, 0, 0, 0, 0, 0, -28, 48, -21])
        value, slope, curvature = (polynomial.deriv(m)(x) for m in range(3))
        scale = 1.0 / cutoff
    return np.stack([value, scale * slope, scale**2 * curvature])


def gaussian_basis(distance: Tensor, size: int, cutoff: float) -> Tensor:
    """Expand distances in Gaussians on an even grid from 0 to the cutoff.

    ``g_k(d) = exp(-(d - c_k)² / (2 w²))`` with ``w = c_1 - c_0``
    (Schütt et al., J. Chem. Phys. 148, 241722 (2018)).

    Args:
        distance: (P,), Å.
        size: number of Gaussians, at least 2.
        cutoff: Å.

    Returns:
        (P, size).
    """
    # From float64: TensorFlow's own would be rounded to float32.
    centres = tf.constant(np.linspace(0.0, cutoff, size), distance.dtype)
    width = cutoff / (size - 1)
    return tf.exp(-0.5 * ((distance[:, None] - centres) / width) ** 2)


def gaussian_derivatives(distance: NDArray, size: int, cutoff: float) -> NDArray:
    """Return the Gaussians, their slopes and curvatures, (3, P, size) float64."""
    width = cutoff / (size - 1)
    u = (distance[:, None] - np.linspace(0.0, cutoff, size)) / width
    return np.exp(-0.5 * u**2) * np.stack(
        [np.ones_like(u), -u / width, (u**2 - 1.0) / width**2]
    )


def sinc_basis(distance: Tensor, size: int, cutoff: float) -> Tensor:
    """Expand distances in the spherical Bessel functions of order 0.

    ``g_n(d) = sin(n π d / cutoff) / d`` for n = 1 to ``size``
    (Gasteiger et al., Directional Message Passing, ICLR 2020, as Schütt et al., ICML
    2021, use it).

    Args:
        distance: (P,), none of them 0, Å.
        size: number of functions.
        cutoff: Å.

    Returns:
        (P, size).
    """
    orders = tf.range(1, size + 1, dtype=distance.dtype)
    distance = distance[:, None]
    return tf.sin(distance * (orders * (math.pi / cutoff))) / distance
