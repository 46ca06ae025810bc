"""Search for the variances of greatest restricted likelihood."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics.fit.likelihood import (
    Point,
    Problem,
    evaluate,
    expected_hessian,
    gradient,
    hessian,
)

MOST_ITERATIONS = 300
TOLERANCE = 1e-11
FISHER_STEPS = 2
# Curvatures of the scaled problem below this part of the greatest are rounding.
LEAST_CURVATURE = 1e-9
MOST_HALVINGS = 100
# Stop after so many steps that change the objective by rounding only.
MOST_STALLS = 4
# A variance shrinks at most by this factor in one step: the model is not quadratic.
SMALLEST_STEP = 0.05
# No variance falls below this part of the pooled one, with or without a prior.
FLOOR = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Result of `solve_variance`."""

    point: Point
    iterations: int
    converged: bool
    collective_error: float


def _direction(
    slope: NDArray[np.float64],
    curvature: NDArray[np.float64],
    scale: NDArray[np.float64],
    active: NDArray[np.bool_],
) -> NDArray[np.float64] | None:
    """Return a descent step for the active unknowns, None if not all curve upwards."""
    inner = scale[active]
    scaled = curvature[np.ix_(active, active)] * np.outer(inner, inner)
    value, vector = np.linalg.eigh(scaled)
    if value[0] <= LEAST_CURVATURE * value[-1]:
        return None
    step = np.zeros_like(slope)
    projected = vector.T @ (inner * slope[active])
    step[active] = -inner * (vector @ (projected / value))
    return step


def solve_variance(
    problem: Problem, start: NDArray[np.float64], floor: float
) -> Solution:
    """Minimise the objective over ``v >= floor`` and ``kappa² >= 0``.

    Fisher steps twice, then Newton steps where the matrix is positive definite;
    unknowns at their bound stay there while the gradient holds them; steps are
    halved until the objective falls. Stops when no ``ln v`` changes by more than
    1e-11, or when several steps lowered the objective by rounding only.

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
    iteration, stalls = 0, 0
    while not converged and iteration < MOST_ITERATIONS:
        iteration += 1
        slope = gradient(problem, point)
        active = (point.unknowns > bound) | (slope < 0)
        if not active.any():
            converged = True
            break
        trial = None
        fisher = expected_hessian(problem, point)
        diagonal = np.diag(fisher)
        # An element that only structures without freedom hold has none.
        diagonal = np.maximum(diagonal, 1e-12 * diagonal.max())
        newton = iteration > FISHER_STEPS
        for curvature in _curvatures(problem, point, fisher, diagonal, newton):
            step = _direction(slope, curvature, 1 / np.sqrt(diagonal), active)
            trial = None if step is None else _search(problem, point, step, bound)
            if trial is not None:
                break
        if trial is None:  # nothing lower within rounding
            converged = True
            break
        change = _relative(problem, point, trial.unknowns - point.unknowns)
        gain = point.objective - trial.objective
        stalls = stalls + 1 if gain <= _rounding(problem, point) else 0
        point = trial
        converged = change < TOLERANCE or stalls >= MOST_STALLS
    error = float("nan")
    if problem.collective:
        fisher = expected_hessian(problem, point)
        # Half the curvature of the deviance is the information.
        error = float(np.sqrt(2 * np.linalg.pinv(fisher, hermitian=True)[free, free]))
    return Solution(point, iteration, converged, error)


def _curvatures(
    problem: Problem,
    point: Point,
    fisher: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    newton: bool,
) -> Iterator[NDArray[np.float64]]:
    """Yield what to try; with bounds, only the last is sure to descend."""
    if newton:
        yield hessian(problem, point)
    yield fisher
    yield np.diag(diagonal)


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
    highest = point.objective + _rounding(problem, point)
    for _ in range(MOST_HALVINGS):
        unknowns = np.maximum(point.unknowns + step, lowest)
        trial = evaluate(problem, unknowns)
        if trial.objective <= highest:
            return trial
        step = step / 2
        if _relative(problem, point, step) < TOLERANCE:
            break
    return None


def _relative(problem: Problem, point: Point, change: NDArray[np.float64]) -> float:
    """Return by what part a change of the unknowns changes a variance at most."""
    free = problem.groups.shape[1]
    parts = np.abs(change[:free]) / point.unknowns[:free]
    largest = float(np.max(parts, initial=0.0))
    if problem.collective:
        steepest = np.max(problem.squared_size / point.variance)
        largest = max(largest, float(abs(change[free]) * steepest))
    return largest


def _rounding(problem: Problem, point: Point) -> float:
    scale = abs(point.objective) + problem.weight.sum()
    return float(4 * np.finfo(float).eps * scale)
