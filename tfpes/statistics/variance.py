r"""Variances by restricted maximum likelihood with a weak prior.

With $s_c^2 = n_c\cdot v + N_c^2\kappa^2$ and $R_c = M_{2,c} + k_c (m_c - n_c\mu)^2$ the
solver minimises

$$\sum_c \left(k_c \ln s_c^2 + R_c/s_c^2\right) + \ln\det\sum_c k_c n_c n_c^T/s_c^2
+ \nu_0\sum_z\left(\ln a_z + \bar a/a_z\right),\qquad a_z = v_z + \bar N\kappa^2,$$

$\mu$ the generalised least squares solution at the same variances. Since
$\partial\ln\det/\partial s_c^2 = -h_c/s_c^2$ with $h_c$ the leverage of the row, the
gradient is that of $\sum((k_c-h_c)\ln s_c^2 + R_c/s_c^2)$ with leverages held fixed.

The last term is that of $\nu_0$ imaginary structures of each pure element, of the mean
size $\bar N$ of the data and with squared deviation $\bar N\bar a$, where $\bar a$ is
the mean of $R/N$. With $\kappa = 0$ the size makes no difference. With $\kappa > 0$ it
does: the laws agree about structures of the mean size, and disagree about single atoms,
so a prior on single atoms would speak for one of the laws.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics.design import Design
from tfpes.statistics.mean import MeanFit, solve_mean

MOST_ITERATIONS = 300
TOLERANCE = 1e-11
# A variance shrinks at most by this factor in one step: the model is not quadratic.
SMALLEST_STEP = 0.05
# No variance falls below this part of the pooled one, with or without a prior.
FLOOR = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What the variance solver needs.

    Args:
        design: counts ``n``, shape (U, T).
        basis: determined space of the mean, shape (T, rank).
        weight: ``k``, shape (U,).
        target: centred means, shape (U,).
        spread: ``M2``, shape (U,).
        groups: elements (T) of each free variance (p), zeros and ones, shape (T, p).
        offset: variance of the elements and of kappa held fixed, shape (U,).
        collective: whether kappa² is free; it is then the last unknown.
        strength: ``nu0`` of the prior on each free variance.
        prior: centre of the prior, a variance per atom.
        atom_offset: ``mean size * kappa²`` if kappa² is held fixed.
        restricted: whether leverages count (REML) or not (ML).
    """

    design: Design
    basis: NDArray[np.float64]
    weight: NDArray[np.float64]
    target: NDArray[np.float64]
    spread: NDArray[np.float64]
    groups: NDArray[np.float64]
    offset: NDArray[np.float64]
    collective: bool = False
    strength: float = 0.0
    prior: float = 1.0
    atom_offset: float = 0.0
    restricted: bool = True

    @functools.cached_property
    def squared_size(self) -> NDArray[np.float64]:
        """``N²`` of each row, shape (U,)."""
        return self.design.predict(np.ones(self.design.columns)) ** 2

    def variance(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``s²`` of each row, shape (U,)."""
        free = self.groups.shape[1]
        total = self.offset + self.design.predict(self.groups @ unknowns[:free])
        if self.collective:
            total = total + unknowns[free] * self.squared_size
        return total

    @functools.cached_property
    def mean_size(self) -> float:
        """Mean number of atoms."""
        size = np.sqrt(self.squared_size)
        return float(np.sum(self.weight * size) / self.weight.sum())

    def atom_variance(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the variance per atom of pure structures of mean size, shape (p,)."""
        free = self.groups.shape[1]
        if self.collective:
            return unknowns[:free] + self.mean_size * unknowns[free]
        return unknowns[:free] + self.atom_offset


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Everything known at one set of variances."""

    unknowns: NDArray[np.float64]
    variance: NDArray[np.float64]
    mean: MeanFit
    squared_residual: NDArray[np.float64]
    deviance: float
    objective: float


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Result of `solve_variance`."""

    point: Point
    iterations: int
    converged: bool
    collective_error: float


def evaluate(problem: Problem, unknowns: NDArray[np.float64]) -> Point:
    """Return the mean, the residuals and the objective at given variances."""
    variance = problem.variance(unknowns)
    mean = solve_mean(
        problem.design, problem.basis, problem.target, problem.weight / variance
    )
    squared = problem.spread + problem.weight * mean.residual**2
    deviance = float(np.sum(problem.weight * np.log(variance) + squared / variance))
    if problem.restricted:
        deviance += mean.log_determinant
    objective = deviance
    if problem.strength:
        atom = problem.atom_variance(unknowns)
        prior = np.log(atom) + problem.prior / atom
        objective += problem.strength * float(np.sum(prior))
    return Point(unknowns, variance, mean, squared, deviance, objective)


def _derivatives(
    problem: Problem, point: Point
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return gradient, Newton and Fisher matrix with the leverages held fixed."""
    left = problem.weight - (point.mean.leverage if problem.restricted else 0.0)
    s = point.variance
    residual = point.squared_residual
    slope = left / s - residual / s**2
    gradient = _project(problem, slope)
    newton = _project_matrix(problem, 2 * residual / s**3 - left / s**2)
    fisher = _project_matrix(problem, np.maximum(left, 0) / s**2)
    if problem.strength:
        # Imaginary structures enter like real ones.
        atom = problem.atom_variance(point.unknowns)
        ratio = problem.prior / atom
        row = np.eye(atom.size, gradient.size)
        if problem.collective:
            row[:, -1] = problem.mean_size
        gradient += problem.strength * row.T @ ((1 - ratio) / atom)
        newton += problem.strength * (row.T * ((2 * ratio - 1) / atom**2)) @ row
        fisher += problem.strength * (row.T / atom**2) @ row
    return gradient, newton, fisher


def _project(problem: Problem, values: NDArray[np.float64]) -> NDArray[np.float64]:
    free = problem.groups.T @ problem.design.adjoint(values)
    if not problem.collective:
        return free
    return np.append(free, np.sum(values * problem.squared_size))


def _project_matrix(
    problem: Problem, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    groups = problem.groups
    free = groups.T @ problem.design.gram(values) @ groups
    if not problem.collective:
        return free
    square = problem.squared_size
    cross = groups.T @ problem.design.adjoint(values * square)
    corner = np.sum(values * square**2)
    return np.block([[free, cross[:, None]], [cross[None, :], np.array([[corner]])]])


def _direction(
    gradient: NDArray[np.float64],
    newton: NDArray[np.float64] | None,
    fisher: NDArray[np.float64],
    active: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return a descent step for the active unknowns, 0 for the others."""
    step = np.zeros_like(gradient)
    for matrix in (newton, fisher):
        if matrix is None:
            continue
        scale = 1 / np.sqrt(np.diag(fisher)[active])
        scaled = matrix[np.ix_(active, active)] * np.outer(scale, scale)
        value, vector = np.linalg.eigh(scaled)
        if matrix is newton and value[0] <= 1e-6 * value[-1]:
            continue
        value = np.maximum(value, 1e-10 * value[-1])
        inner = vector.T @ (scale * gradient[active])
        step[active] = -scale * (vector @ (inner / value))
        return step
    return step  # pragma: no cover


def solve_variance(
    problem: Problem, start: NDArray[np.float64], floor: float
) -> Solution:
    """Minimise the objective over ``v >= floor`` and ``kappa² >= 0``.

    Fisher steps twice, then Newton steps where the matrix is positive definite;
    unknowns at their bound stay there while the gradient holds them; steps are
    halved until the objective falls. Stops when no ``ln v`` changes by more than
    1e-11.

    Args:
        problem: the data and the law.
        start: first variances, and kappa² if free, shape (p,) or (p + 1,).
        floor: least variance.
    """
    bound = np.full(start.size, floor)
    free = problem.groups.shape[1]
    if problem.collective:
        bound[free] = 0.0
    point = evaluate(problem, np.maximum(start, bound))
    converged = start.size == 0
    iteration = 0
    while not converged and iteration < MOST_ITERATIONS:
        iteration += 1
        gradient, newton, fisher = _derivatives(problem, point)
        active = (point.unknowns > bound) | (gradient < 0)
        if not active.any():
            converged = True
            break
        trial, converged = None, False
        for matrix in (newton if iteration > 2 else None, None):
            step = _direction(gradient, matrix, fisher, active)
            trial = _search(problem, point, step, bound)
            if trial is not None:
                break
        if trial is None:  # nothing lower within rounding
            converged = True
            break
        change = np.abs(trial.unknowns - point.unknowns)
        relative = np.max(change[:free] / point.unknowns[:free], initial=0.0)
        if problem.collective:
            steepest = np.max(problem.squared_size / point.variance)
            relative = np.maximum(relative, change[free] * steepest)
        point = trial
        converged = bool(relative < TOLERANCE)
    error = float("nan")
    if problem.collective:
        fisher = _derivatives(problem, point)[2]
        # Half the curvature of the deviance is the information.
        error = float(np.sqrt(2 * np.linalg.pinv(fisher, hermitian=True)[free, free]))
    return Solution(point, iteration, converged, error)


def _search(
    problem: Problem,
    point: Point,
    step: NDArray[np.float64],
    bound: NDArray[np.float64],
) -> Point | None:
    """Return the first point along the step that is not higher, or None."""
    lowest = np.maximum(bound, SMALLEST_STEP * point.unknowns)
    if problem.collective:
        lowest[-1] = 0.0
    rounding = 4 * np.finfo(float).eps * (abs(point.objective) + problem.weight.sum())
    for halving in range(30):
        unknowns = np.maximum(point.unknowns + 0.5**halving * step, lowest)
        trial = evaluate(problem, unknowns)
        if trial.objective <= point.objective + rounding:
            return trial
    return None
