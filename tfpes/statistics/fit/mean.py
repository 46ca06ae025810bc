"""Generalised least squares for the mean energy of each element."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tfpes.statistics.fit.design import Design

# Bits kept of a reference energy: its product with a count is then exact.
REFERENCE_BITS = 24


def centre(
    design: Design,
    reference: NDArray[np.float64],
    mean: NDArray[np.float64],
    mean_low: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return ``mean + mean_low - n @ reference`` without loss of digits.

    Energies near -6e6 eV differ by 0.1 eV; the product alone rounds to 1e-9 eV. The
    reference is split on a common grid coarse enough for exact products and sums.
    """
    largest = np.max(np.abs(reference), initial=0.0)
    if largest == 0:
        return mean + mean_low
    grid = np.ldexp(1.0, int(np.frexp(largest)[1]) - REFERENCE_BITS)
    high = np.round(reference / grid) * grid
    exact = mean - design.predict(high)
    return exact + (mean_low - design.predict(reference - high))


def determined_basis(
    design: Design, weight: NDArray[np.float64], null: list[list[Fraction]]
) -> NDArray[np.float64]:
    """Return a basis, shape (T, rank), of what the compositions determine.

    Orthogonal to everything undetermined, so that a solution within it is the one
    closest to the reference. Beyond the exact null space, directions below rounding
    (``16 T eps`` of the largest eigenvalue of the equilibrated Gram matrix) are left
    out as well.

    Args:
        design: counts.
        weight: weight of each row, shape (U,).
        null: exact null vectors from `undetermined.null_vectors`.
    """
    columns = design.columns
    basis = np.eye(columns)
    if null:
        basis = scipy.linalg.null_space(np.array(null, np.float64))
    if not basis.shape[1]:
        return basis
    gram = basis.T @ design.gram(weight) @ basis
    scale = 1 / np.sqrt(np.diag(gram))
    value, vector = np.linalg.eigh(gram * np.outer(scale, scale))
    small = value <= 16 * columns * np.finfo(float).eps * value[-1]
    if small.any():
        undetermined = (scale[:, None] * vector[:, small]).T
        basis = basis @ scipy.linalg.null_space(undetermined)
    return basis


@dataclasses.dataclass(frozen=True, eq=False)
class MeanFit:
    """Solution of one generalised least squares problem.

    Args:
        coefficient: shape (T,).
        residual: ``y - n @ coefficient``, shape (U,).
        leverage: degrees of freedom that the mean takes from each row, shape (U,).
        inverse: of the Gram matrix, within the determined space, shape (T, T).
        log_determinant: of the Gram matrix in the determined space.
    """

    coefficient: NDArray[np.float64]
    residual: NDArray[np.float64]
    leverage: NDArray[np.float64]
    inverse: NDArray[np.float64]
    log_determinant: float


def solve_mean(
    design: Design,
    basis: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> MeanFit:
    """Minimise ``sum(weight (target - n @ d)²)`` over ``d`` in `basis`.

    Args:
        design: counts, shape (U, T).
        basis: from `determined_basis`, shape (T, rank).
        target: centred mean energies, shape (U,).
        weight: ``k / s²``, shape (U,).
    """
    if not basis.shape[1]:
        columns = design.columns
        none, flat = np.zeros(design.rows), np.zeros((columns, columns))
        return MeanFit(np.zeros(columns), target, none, flat, 0.0)
    gram = basis.T @ design.gram(weight) @ basis
    scale = 1 / np.sqrt(np.diag(gram))
    value, vector = np.linalg.eigh(gram * np.outer(scale, scale))
    # The space is determined; rounding must not make it look otherwise.
    value = np.maximum(value, np.finfo(float).eps * value[-1])
    root = basis @ (scale[:, None] * vector / np.sqrt(value))
    inverse = root @ root.T
    coefficient = np.zeros(design.columns)
    residual = target
    for _ in range(2):  # the second time on the residual: iterative refinement
        coefficient = coefficient + root @ (root.T @ design.adjoint(weight * residual))
        residual = target - design.predict(coefficient)
    log_determinant = float(np.sum(np.log(value)) - 2 * np.sum(np.log(scale)))
    leverage = weight * design.quadratic(inverse)
    return MeanFit(coefficient, residual, leverage, inverse, log_determinant)
