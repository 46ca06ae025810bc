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

import dataclasses
import functools
import itertools

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.mean import MeanFit, solve_mean

_MOST_ROWS = 5000


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Centred data whose spread is to be explained, in units of a variance.

    Args:
        design: compositions ``n``, shape (U, T).
        basis: determined space of the mean, shape (T, rank).
        weight: ``k``, shape (U,).
        target: centred means, shape (U,).
        squared_deviations: ``M2``, shape (U,).
        unit: the variance, eV².
        restricted: whether leverages count (REML) or not (maximum likelihood).
    """

    design: Design
    basis: NDArray[np.float64]
    weight: NDArray[np.float64]
    target: NDArray[np.float64]
    squared_deviations: NDArray[np.float64]
    unit: float
    restricted: bool = True

    @functools.cached_property
    def size(self) -> NDArray[np.float64]:
        """Atoms ``N`` of each row, shape (U,)."""
        return self.design.predict(np.ones(self.design.columns))

    @functools.cached_property
    def mean_size(self) -> float:
        """Mean number of atoms."""
        return float(np.average(self.size, weights=self.weight))

    def log_likelihood(self, deviance: float) -> float:
        """Return the log-likelihood in eV, with what the deviance leaves out."""
        rank = self.basis.shape[1] if self.restricted else 0
        constant = (self.weight.sum() - rank) * np.log(2 * np.pi * self.unit)
        return float(-0.5 * (deviance + constant))


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    r"""What the variances of the data depend on.

    Args:
        data: to explain.
        groups: derivative of each $\sigma_z^2$ by the free variances, shape (T, p).
        known: variances of the elements held fixed, else 0, shape (T,).
        collective: whether $\kappa^2$ is free; it is then the last unknown.
        kappa: $\kappa^2$ if it is held fixed.
        strength: $\nu_0$ of the prior, which holds each free variance.
        centre: $\bar a$ of the prior, a variance per atom.
    """

    data: Data
    groups: NDArray[np.float64]
    known: NDArray[np.float64]
    collective: bool = False
    kappa: float = 0.0
    strength: float = 0.0
    centre: float = 1.0

    def kappa_of(self, unknowns: NDArray[np.float64]) -> float:
        """Return ``kappa²``."""
        return float(unknowns[-1]) if self.collective else self.kappa

    def element_variance(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``sigma²`` of each element, shape (T,)."""
        return self.known + self.groups @ unknowns[: self.groups.shape[1]]

    def variance(self, unknowns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``s²`` of each row, then ``a`` of each imaginary structure."""
        kappa = self.kappa_of(unknowns)
        rows = self.data.design.predict(self.element_variance(unknowns))
        if kappa:
            rows += kappa * self.data.size**2
        atom = unknowns[: self._imaginary] + kappa * self.data.mean_size
        return np.append(rows, atom)

    def project(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``D^T values`` with ``D`` the derivative of :meth:`variance`."""
        rows, atom = np.split(values, [self.data.weight.size])
        free = self.groups.T @ self.data.design.adjoint(rows)
        free[: atom.size] += atom
        if not self.collective:
            return free
        last = rows @ self.data.size**2 + self.data.mean_size * atom.sum()
        return np.append(free, last)

    def project_matrix(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``D^T diag(values) D``."""
        rows, atom = np.split(values, [self.data.weight.size])
        free = self.groups.T @ self.data.design.gram(rows) @ self.groups
        free[np.diag_indices(atom.size)] += atom
        if not self.collective:
            return free
        by_kappa = np.append(self.data.size**2, np.full(atom.size, self.data.mean_size))
        last = self.project(values * by_kappa)
        return np.block([[free, last[:-1, None]], [last]])

    def derivative(self) -> scipy.sparse.csc_array:
        """Return ``D`` of the rows alone, shape (U, p or p + 1)."""
        free = self.data.design.matrix @ scipy.sparse.csr_array(self.groups)
        if self.collective:
            free = scipy.sparse.hstack([free, self.data.size[:, None] ** 2])
        return scipy.sparse.csc_array(free)

    @property
    def _imaginary(self) -> int:
        return self.groups.shape[1] if self.strength else 0


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """Everything known at one set of variances.

    The imaginary structures of the prior follow the rows of the data.

    Args:
        unknowns: free variances, then kappa² if free.
        variance: ``s²``.
        squared: ``R``.
        freedom: ``k - h``.
        mean: fitted with these variances.
        deviance: minus twice the log-likelihood, without its constant.
        objective: with the prior.
    """

    unknowns: NDArray[np.float64]
    variance: NDArray[np.float64]
    squared: NDArray[np.float64]
    freedom: NDArray[np.float64]
    mean: MeanFit
    deviance: float
    objective: float


def evaluate(problem: Problem, unknowns: NDArray[np.float64]) -> Point:
    """Return the mean, the residuals and the objective at given variances."""
    data = problem.data
    variance = problem.variance(unknowns)
    rows, atom = np.split(variance, [data.weight.size])
    mean = solve_mean(data.design, data.basis, data.target, data.weight / rows)
    squared = data.squared_deviations + data.weight * mean.residual**2
    deviance = float(np.sum(data.weight * np.log(rows) + squared / rows))
    freedom = data.weight
    if data.restricted:
        deviance += mean.log_determinant
        freedom = freedom - mean.leverage
    strength = np.full(atom.size, problem.strength)
    prior = float(np.sum(strength * (np.log(atom) + problem.centre / atom)))
    return Point(
        unknowns,
        variance,
        np.append(squared, strength * problem.centre),
        np.append(freedom, strength),
        mean,
        deviance,
        deviance + prior,
    )


def gradient(problem: Problem, point: Point) -> NDArray[np.float64]:
    """Return the derivative of the objective by the unknowns."""
    s = point.variance
    return problem.project((point.freedom - point.squared / s) / s)


def information(problem: Problem, point: Point) -> NDArray[np.float64]:
    """Return the second derivative that the law expects (Fisher): never negative."""
    freedom = np.maximum(point.freedom, 0)
    return problem.project_matrix(freedom / point.variance**2)


def curvature(problem: Problem, point: Point) -> NDArray[np.float64]:
    """Return the second derivative with mean and leverages held fixed."""
    s = point.variance
    return problem.project_matrix((2 * point.squared / s - point.freedom) / s**2)


def hessian(problem: Problem, point: Point) -> NDArray[np.float64]:
    r"""Return the whole second derivative of the objective by the unknowns.

    With $G = \sum_c w_c n_c n_c^T$, $w = k/s^2$, mean and leverages follow the
    variances by $\partial\mu = -G^{-1} n_d\, w_d r_d/s_d^2$ and $\partial h_c = w_c
    w_d (n_c^T G^{-1} n_d)^2/s_d^2 - \delta_{cd} h_c/s_c^2$. With the residuals $r$, the
    derivative $D$ of $s^2$, $B = \sum_c n_c D_c^T w_c r_c/s_c^2$ and $M_i = \sum_c
    n_c n_c^T D_{ci} w_c/s_c^2$ the second derivative is

    $$\sum_c D_c D_c^T\,\frac{2R_c/s_c^2 - k_c + 2h_c}{s_c^4}
    - 2B^T G^{-1} B - \operatorname{tr}(M_i G^{-1} M_j G^{-1}).$$

    The last term is left out for elements in more than 5000 rows: it is smaller than
    the first by the mean leverage of these rows, at most 119 / 5000.
    """
    data, mean, s = problem.data, point.mean, point.variance
    rows = s[: data.weight.size]
    weight = data.weight / rows**2
    derivative = problem.derivative()
    pull = weight * mean.residual
    by_mean = data.design.gram(pull) @ problem.groups
    if problem.collective:
        last = data.design.adjoint(pull * data.size**2)
        by_mean = np.column_stack([by_mean, last])
    total = -2 * by_mean.T @ mean.inverse @ by_mean
    leverage = np.zeros_like(s)
    if data.restricted:
        leverage[: rows.size] = mean.leverage
        change = np.zeros((len(total), *mean.inverse.shape))
        for number, (start, end) in enumerate(itertools.pairwise(derivative.indptr)):
            if end - start <= _MOST_ROWS:
                held = derivative.indices[start:end]
                moved = weight[held] * derivative.data[start:end]
                part = Design(data.design.matrix[held])
                change[number] = part.gram(moved) @ mean.inverse
        total -= np.einsum("iab,jba->ij", change, change, optimize=True)
    # The freedom k - h has taken the leverage off once.
    diagonal = (2 * point.squared / s - point.freedom + leverage) / s**2
    return total + problem.project_matrix(diagonal)
