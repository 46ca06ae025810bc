"""The fit of one size law, in units of the pooled variance."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.likelihood import Point, Problem
from tfpes.statistics.fit.results import LawFit
from tfpes.statistics.fit.variance import FLOOR, solve_variance

# Least sigma² beside a kappa² that may take all the spread, in units of the pooled one.
COLLECTIVE_FLOOR = 1e-4
# Few data may have two optima; with more, the second search is only lost time.
MOST_ROWS_TWICE = 50_000


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """Centred data whose spread is to be explained.

    Args:
        design: counts, shape (U, T).
        basis: determined space of the mean, shape (T, rank).
        weight: ``k``, shape (U,).
        target: centred means, shape (U,).
        squared_deviations: ``M2``, shape (U,).
        pooled: least squares estimate of one variance per atom, above 0.
        given: variances held fixed, NaN where free, shape (T,).
        per_element: whether each element has its own.
        strength: of the prior.
        restricted: whether leverages count.
    """

    design: Design
    basis: NDArray[np.float64]
    weight: NDArray[np.float64]
    target: NDArray[np.float64]
    squared_deviations: NDArray[np.float64]
    pooled: float
    given: NDArray[np.float64]
    per_element: bool
    strength: float
    restricted: bool


def fit_law(
    data: Spread,
    collective: bool,
    fixed_collective: float,
    nested: LawFit | None = None,
) -> tuple[LawFit, Point]:
    """Fit the variances of one law.

    First one variance for all elements, which centres the prior; then one and kappa²,
    if that is free, to start from; then each element its own.

    Args:
        data: what to explain.
        collective: whether kappa² is free.
        fixed_collective: its value if not.
        nested: fit of the independent law. The collective law is then also searched
            from there, and cannot fit worse.

    Returns:
        The fit, and the point that the solver reached, in units of its own except
        for the coefficients of the mean.
    """
    unit = data.pooled
    root = np.sqrt(unit)
    free = np.isnan(data.given)
    any_free = bool(free.any())
    size = data.design.predict(np.ones(free.size))
    mean_size = np.sum(data.weight * size) / data.weight.sum()
    floor = COLLECTIVE_FLOOR if collective or fixed_collective else FLOOR
    known = np.where(free, 0.0, data.given / unit)
    fixed = fixed_collective / unit
    problem = Problem(
        data.design,
        data.basis,
        data.weight,
        data.target / root,
        data.squared_deviations / unit,
        groups=free[:, None].astype(float)[:, : int(any_free)],
        offset=data.design.predict(known) + fixed * size**2,
        atom_offset=fixed * mean_size,
        restricted=data.restricted,
    )
    if nested is None:
        solution = solve_variance(problem, np.ones(int(any_free)), floor)
        pooled = solution.point.unknowns[0] if any_free else np.mean(known)
        converged = solution.converged
    else:  # which began with the same fit
        pooled = max(nested.pooled_variance / unit, floor)
        converged = nested.converged
    centre = float(pooled + fixed * mean_size)
    if collective:
        problem = dataclasses.replace(problem, collective=True)
        # Half of the spread to each in structures of mean size.
        start = np.append(np.full(int(any_free), 0.5), 0.5) * pooled
        start[-1] /= mean_size
        solution = solve_variance(problem, start, floor)
        pooled = solution.point.unknowns[0] if any_free else pooled
        converged &= solution.converged
    if data.per_element and any_free:
        groups = np.eye(free.size)[:, free]
        problem = dataclasses.replace(
            problem, groups=groups, strength=data.strength, prior=centre
        )
        start = np.full(groups.shape[1], pooled)
        twice = data.weight.size <= MOST_ROWS_TWICE
        if nested is not None and not twice:
            start = nested.variance[free] * pooled / nested.pooled_variance
        start = np.append(start, solution.point.unknowns[1:])
        solution = solve_variance(problem, start, floor)
        if nested is not None and (
            twice or solution.point.objective > nested.objective
        ):
            start = np.append(nested.variance[free] / unit, 0.0)
            other = solve_variance(problem, start, floor)
            if other.point.objective < solution.point.objective:
                solution = other
        converged &= solution.converged
    point = solution.point
    count = problem.groups.shape[1]
    variance = np.where(
        free, problem.groups @ point.unknowns[:count] * unit, data.given
    )
    kappa = point.unknowns[count] * unit if collective else fixed_collective
    freedom = data.weight.sum() - (data.basis.shape[1] if data.restricted else 0)
    constant = freedom * np.log(2 * np.pi * unit)
    fit = LawFit(
        variance=variance,
        pooled_variance=float(pooled * unit),
        collective_variance=float(kappa),
        collective_error=solution.collective_error * unit,
        log_likelihood=float(-0.5 * (point.deviance + constant)),
        objective=point.objective,
        iterations=solution.iterations,
        converged=converged,
    )
    mean = dataclasses.replace(point.mean, coefficient=point.mean.coefficient * root)
    return fit, dataclasses.replace(point, mean=mean)
