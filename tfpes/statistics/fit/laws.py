"""The fit of one size law."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics.fit.likelihood import Data, Point, Problem, hessian
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import LawFit
from tfpes.statistics.fit.variance import FLOOR, Solution, solve_variance

_COLLECTIVE_FLOOR = 1e-4
"""Least sigma² beside a kappa² that may take all, in units of the pooled one."""

# Few data may have two optima; with more, the second search is only lost time.
_MOST_ROWS_TWICE = 50_000


def fit_law(
    data: Data,
    given: NDArray[np.float64],
    options: FitOptions,
    *,
    collective: bool = False,
    kappa: float = 0.0,
    nested: LawFit | None = None,
) -> tuple[LawFit, NDArray[np.float64]]:
    """Fit the variances of one law.

    First one variance for all elements, which centres the prior; then one and kappa²,
    if that is free, to start from; then each element its own.

    Args:
        data: what to explain, in units of the pooled variance.
        given: variances held fixed, eV², NaN where free, shape (T,).
        options: whether each element has its own, and the strength of the prior.
        collective: whether kappa² is free.
        kappa: its value if not, eV².
        nested: fit of the independent law. The collective law is then also searched
            from there, and cannot fit worse.

    Returns:
        The fit, and by how much the means change, eV, shape (T,).
    """
    unit, free = data.unit, np.isnan(given)
    known = np.where(free, 0.0, given / unit)
    one = np.ones(int(free.any()))
    floor = _COLLECTIVE_FLOOR if collective or kappa else FLOOR
    groups = free[:, None] * one
    problem = Problem(data, groups, known, kappa=kappa / unit)
    if nested is None:
        solution = solve_variance(problem, one, floor)
        pooled = solution.point.unknowns[0] if one.size else float(np.mean(known))
        converged = solution.converged
    else:  # which began with the same fit
        pooled, converged = max(nested.pooled_variance / unit, floor), nested.converged
    centre = float(pooled + problem.kappa * data.mean_size)
    if collective:
        problem = dataclasses.replace(problem, collective=True)
        # Half of the spread to each in structures of mean size.
        start = np.append(one, 1 / data.mean_size) * pooled / 2
        solution = solve_variance(problem, start, floor)
        pooled = solution.point.unknowns[0] if one.size else pooled
        converged &= solution.converged
    with_one = data.log_likelihood(solution.point.deviance)
    if options.per_element and one.size:
        problem = dataclasses.replace(
            problem,
            groups=np.eye(free.size)[:, free],
            strength=options.prior_strength,
            centre=centre,
        )
        rest = solution.point.unknowns[1:]
        solution = _each_its_own(problem, free, pooled, rest, floor, nested)
        converged &= solution.converged
    point = solution.point
    error = _errors(problem, point, floor) * unit
    own = error[: problem.groups.shape[1]]
    fit = LawFit(
        variance=np.where(free, problem.element_variance(point.unknowns) * unit, given),
        pooled_variance=float(pooled * unit),
        collective_variance=problem.kappa_of(point.unknowns) * unit,
        variance_error=np.where(free, problem.groups @ own, 0.0),
        collective_error=float(error[-1]) if collective else 0.0,
        log_likelihood=data.log_likelihood(point.deviance),
        pooled_log_likelihood=with_one,
        objective=point.objective,
        iterations=solution.iterations,
        converged=converged,
    )
    return fit, point.mean.coefficient * np.sqrt(unit)


def _errors(problem: Problem, point: Point, floor: float) -> NDArray[np.float64]:
    """Return standard errors of the unknowns; 0 for those at their bound."""
    bound = np.full(point.unknowns.size, floor)
    if problem.collective:
        bound[-1] = 0.0
    inside = np.flatnonzero(point.unknowns > bound * (1 + 1e-9))
    errors = np.zeros(bound.size)
    if not inside.size:
        return errors
    # Half the curvature of the objective is the information.
    inner = hessian(problem, point)[np.ix_(inside, inside)]
    variance = 2 * np.diag(np.linalg.pinv(inner, hermitian=True))
    errors[inside] = np.sqrt(np.maximum(variance, 0.0))
    return errors


def _each_its_own(
    problem: Problem,
    free: NDArray[np.bool_],
    pooled: float,
    kappa: NDArray[np.float64],
    floor: float,
    nested: LawFit | None,
) -> Solution:
    """Search from one variance for all, and from the nested fit."""
    start = np.full(int(free.sum()), pooled)
    if nested is None:
        return solve_variance(problem, np.append(start, kappa), floor)
    inside = nested.variance[free]
    many = problem.data.weight.size > _MOST_ROWS_TWICE
    if many:
        start = inside * (pooled / nested.pooled_variance)
    solution = solve_variance(problem, np.append(start, kappa), floor)
    if many and solution.point.objective <= nested.objective:
        return solution
    start = np.append(inside / problem.data.unit, 0.0)
    other = solve_variance(problem, start, floor)
    return min(solution, other, key=lambda found: found.point.objective)
