"""Generalised least squares for the mean energy of each element."""

import dataclasses
from fractions import Fraction

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tfpes.statistics.fit.design import Design

_EPS = float(np.finfo(np.float64).eps)


def determined_basis(
    design: Design,
    weight: NDArray[np.float64],
    free: NDArray[np.bool_],
    null: list[list[Fraction]],
) -> NDArray[np.float64]:
    """Return a basis, shape (T, rank), of what the compositions determine.

    Orthogonal to everything undetermined, so that a solution within it is the one
    closest to the reference. Beyond the exact null space, directions below rounding
    (``16 T eps`` of the largest eigenvalue of the equilibrated Gram matrix) are left
    out as well.

    Args:
        design: compositions.
        weight: weight of each row, shape (U,).
        free: elements whose mean is to be fitted, shape (T,).
        null: exact null vectors of these, from `undetermined.null_vectors`.
    """
    basis = np.eye(design.columns)[:, free]
    if null:
        basis = basis @ scipy.linalg.null_space(np.array(null, np.float64))
    if not basis.shape[1]:
        return basis
    value, vector, scale = _equilibrated(basis.T @ design.gram(weight) @ basis)
    small = value <= 16 * design.columns * _EPS * value[-1]
    if small.any():
        lost = (scale[:, None] * vector[:, small]).T
        basis = basis @ scipy.linalg.null_space(lost)
    return basis


def _equilibrated(gram: NDArray[np.float64]) -> tuple[NDArray, NDArray, NDArray]:
    """Return eigenvalues and -vectors after scaling to a unit diagonal, and scale."""
    scale = 1 / np.sqrt(np.diag(gram))
    value, vector = np.linalg.eigh(gram * np.outer(scale, scale))
    return value, vector, scale


@dataclasses.dataclass(frozen=True, eq=False)
class MeanFit:
    """Solution of one generalised least squares problem.

    Args:
        coefficient: shape (T,).
        residual: ``y - n @ coefficient``, shape (U,).
        leverage: degrees of freedom that the mean takes from each row, shape (U,).
        log_determinant: of the Gram matrix in the determined space.
        inverse: of the Gram matrix in the determined space, shape (T, T).
    """

    coefficient: NDArray[np.float64]
    residual: NDArray[np.float64]
    leverage: NDArray[np.float64]
    log_determinant: float
    inverse: NDArray[np.float64]


def solve_mean(
    design: Design,
    basis: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> MeanFit:
    """Minimise ``sum(weight (target - n @ d)²)`` over ``d`` in `basis`.

    Args:
        design: compositions, shape (U, T).
        basis: from `determined_basis`, shape (T, rank).
        target: centred mean energies, shape (U,).
        weight: ``k / s²``, shape (U,).
    """
    coefficient, residual = np.zeros(design.columns), target
    if not basis.shape[1]:
        nothing = np.zeros((design.columns, design.columns))
        return MeanFit(coefficient, residual, np.zeros(design.rows), 0.0, nothing)
    value, vector, scale = _equilibrated(basis.T @ design.gram(weight) @ basis)
    # The space is determined; rounding must not make it look otherwise.
    value = np.maximum(value, _EPS * value[-1])
    root = basis @ (scale[:, None] * vector / np.sqrt(value))
    for _ in range(2):  # the second time on the residual: iterative refinement
        coefficient = coefficient + root @ (root.T @ design.adjoint(weight * residual))
        residual = target - design.predict(coefficient)
    inverse = root @ root.T
    leverage = weight * design.quadratic(inverse)
    log_determinant = float(np.sum(np.log(value)) - 2 * np.sum(np.log(scale)))
    return MeanFit(coefficient, residual, leverage, log_determinant, inverse)
