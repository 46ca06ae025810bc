r"""The restricted likelihood of variances, its gradient and curvature.

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

from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.mean import MeanFit, solve_mean

# Up to here the curvature includes how the leverages change, which takes a matrix of
# rows by rows. With more rows each has little leverage.
EXACT_ROWS = 1500


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


def gradient(problem: Problem, point: Point) -> NDArray[np.float64]:
    """Return the derivative of the objective by the unknowns."""
    s, k, squared = point.variance, problem.weight, point.squared_residual
    slope = project(problem, (k - _leverage(problem, point)) / s - squared / s**2)
    if problem.strength:
        atom, row = _imaginary(problem, point)
        slope += problem.strength * row.T @ ((1 - problem.prior / atom) / atom)
    return slope


def expected_hessian(problem: Problem, point: Point) -> NDArray[np.float64]:
    """Return the second derivative that the law expects (Fisher): never negative."""
    freedom = np.maximum(problem.weight - _leverage(problem, point), 0)
    fisher = project_matrix(problem, freedom / point.variance**2)
    if problem.strength:
        atom, row = _imaginary(problem, point)
        fisher += problem.strength * (row.T / atom**2) @ row
    return fisher


def hessian(problem: Problem, point: Point) -> NDArray[np.float64]:
    r"""Return the second derivative of the objective by the unknowns.

    With $D = \partial s^2/\partial x$, $w = k/s^2$, $Q = n G^{-1} n^T$, $\tilde D =
    D w/s^2$ and $u = \tilde D r$ the Hessian of the deviance is $D^T \mathrm{diag}(2
    R/s^6 - (k-2h)/s^4) D - \tilde D^T (Q\circ Q) \tilde D - 2 u^T Q u$. Beyond
    `EXACT_ROWS` rows the leverages are held fixed, $(k-h)$ and no second term.
    """
    s, k, squared = point.variance, problem.weight, point.squared_residual
    h = _leverage(problem, point)
    exact = problem.restricted and k.size <= EXACT_ROWS
    left = k - 2 * h if exact else k - h
    second = project_matrix(problem, 2 * squared / s**3 - left / s**2)
    moved = _mean_shift(problem, k * point.mean.residual / s**2)
    second -= 2 * moved.T @ point.mean.inverse @ moved
    if exact:
        n = problem.design.matrix.toarray()
        q = n @ point.mean.inverse @ n.T
        slope = (k / s**2)[:, None] * _slopes(problem, n)
        second -= slope.T @ (q * q) @ slope
    if problem.strength:
        atom, row = _imaginary(problem, point)
        curvature = (2 * problem.prior / atom - 1) / atom**2
        second += problem.strength * (row.T * curvature) @ row
    return second


def _leverage(problem: Problem, point: Point) -> NDArray[np.float64]:
    return point.mean.leverage if problem.restricted else np.zeros(problem.weight.size)


def _imaginary(
    problem: Problem, point: Point
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the variances of the prior's structures, and their derivatives."""
    atom = problem.atom_variance(point.unknowns)
    row = np.eye(atom.size, point.unknowns.size)
    if problem.collective:
        row[:, -1] = problem.mean_size
    return atom, row


def _slopes(problem: Problem, n: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the derivative of each variance by each unknown, dense."""
    free = n @ problem.groups
    if not problem.collective:
        return free
    return np.column_stack([free, problem.squared_size])


def _mean_shift(problem: Problem, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``n^T diag(values) D``, shape (T, p)."""
    free = problem.design.gram(values) @ problem.groups
    if not problem.collective:
        return free
    last = problem.design.adjoint(values * problem.squared_size)
    return np.column_stack([free, last])


def project(problem: Problem, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``D^T values``, shape (p,)."""
    free = problem.groups.T @ problem.design.adjoint(values)
    if not problem.collective:
        return free
    return np.append(free, np.sum(values * problem.squared_size))


def project_matrix(
    problem: Problem, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``D^T diag(values) D``, shape (p, p)."""
    groups = problem.groups
    free = groups.T @ problem.design.gram(values) @ groups
    if not problem.collective:
        return free
    square = problem.squared_size
    cross = groups.T @ problem.design.adjoint(values * square)
    corner = np.sum(values * square**2)
    return np.block([[free, cross[:, None]], [cross[None, :], np.array([[corner]])]])
