"""Search for the variances of greatest restricted likelihood."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics.fit.likelihood import (
    Point,
    Problem,
    curvature,
    evaluate,
    gradient,
    information,
)

FLOOR = 1e-6
"""No variance falls below this part of the pooled one, with or without a prior."""

# Greatest change of ln v in the last step. The steps contract by a factor of 2 or more,
# so that variances are good to 1e-7: far below their standard errors.
_TOLERANCE = 1e-8
_MOST_ITERATIONS = 300
_FISHER_STEPS = 2
# Curvatures of the scaled problem below this part of the greatest are rounding.
_LEAST_CURVATURE = 1e-9
_MOST_HALVINGS = 100
# Stop after so many steps that change the objective by rounding only.
_MOST_STALLS = 10
# A variance shrinks at most by this factor in one step: the model is not quadratic.
_SMALLEST_STEP = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Result of `solve_variance`."""

    point: Point
    iterations: int
    converged: bool


def solve_variance(
    problem: Problem, start: NDArray[np.float64], floor: float
) -> Solution:
    """Minimise the objective over ``v >= floor`` and ``kappa² >= 0``.

    Fisher steps twice, then those with the curvature at fixed mean and leverages where
    it is positive definite; unknowns at their bound stay there while the gradient
    holds them; steps are halved until the objective falls.

    Args:
        problem: the data and the law.
        start: first variances, and kappa² if free, shape (p,) or (p + 1,).
        floor: least variance.
    """
    bound = np.full(start.size, floor)
    if problem.collective:
        bound[-1] = 0.0
    point = evaluate(problem, np.maximum(start, bound))
    stalls = 0
    for iteration in range(_MOST_ITERATIONS):
        slope = gradient(problem, point)
        active = (point.unknowns > bound) | (slope < 0)
        if not active.any():
            return Solution(point, iteration, True)
        fisher = information(problem, point)
        diagonal = np.diag(fisher)
        # An element that only structures without freedom hold has none.
        diagonal = np.maximum(diagonal, 1e-12 * diagonal.max())
        trial = None
        newton = iteration >= _FISHER_STEPS
        for second in _curvatures(problem, point, fisher, diagonal, newton):
            step = _direction(slope, second, 1 / np.sqrt(diagonal), active)
            trial = None if step is None else _search(problem, point, step, bound)
            if trial is not None:
                break
        if trial is None:  # nothing lower within rounding
            return Solution(point, iteration, True)
        change = _relative(problem, point, trial.unknowns - point.unknowns)
        gain = point.objective - trial.objective
        stalls = stalls + 1 if gain <= _rounding(problem, point) else 0
        point = trial
        if change < _TOLERANCE or stalls >= _MOST_STALLS:
            return Solution(point, iteration + 1, True)
    return Solution(point, _MOST_ITERATIONS, False)


def _curvatures(
    problem: Problem,
    point: Point,
    fisher: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    newton: bool,
) -> Iterator[NDArray[np.float64]]:
    """Yield what to try; with bounds, only the last is sure to descend."""
    if newton:
        yield curvature(problem, point)
    yield fisher
    yield np.diag(diagonal)


def _direction(
    slope: NDArray[np.float64],
    second: NDArray[np.float64],
    scale: NDArray[np.float64],
    active: NDArray[np.bool_],
) -> NDArray[np.float64] | None:
    """Return a descent step for the active unknowns, None if not all curve upwards."""
    inner = scale[active]
    value, vector = np.linalg.eigh(
        second[np.ix_(active, active)] * np.outer(inner, inner)
    )
    if value[0] <= _LEAST_CURVATURE * value[-1]:
        return None
    step = np.zeros_like(slope)
    projected = vector.T @ (inner * slope[active])
    step[active] = -inner * (vector @ (projected / value))
    return step


def _search(
    problem: Problem,
    point: Point,
    step: NDArray[np.float64],
    bound: NDArray[np.float64],
) -> Point | None:
    """Return the first point along the step that is not higher, or None."""
    lowest = np.maximum(bound, _SMALLEST_STEP * point.unknowns)
    if problem.collective:
        lowest[-1] = 0.0
    highest = point.objective + _rounding(problem, point)
    for _ in range(_MOST_HALVINGS):
        trial = evaluate(problem, np.maximum(point.unknowns + step, lowest))
        if trial.objective <= highest:
            return trial
        step = step / 2
        if _relative(problem, point, step) < _TOLERANCE:
            break
    return None


def _relative(problem: Problem, point: Point, change: NDArray[np.float64]) -> float:
    """Return by what part a change of the unknowns changes a variance at most."""
    free = problem.groups.shape[1]
    parts = np.abs(change[:free]) / point.unknowns[:free]
    largest = float(np.max(parts, initial=0.0))
    if problem.collective:
        rows = point.variance[: problem.data.size.size]
        steepest = np.max(problem.data.size**2 / rows)
        largest = max(largest, float(abs(change[-1]) * steepest))
    return largest


def _rounding(problem: Problem, point: Point) -> float:
    scale = abs(point.objective) + problem.data.weight.sum()
    return float(4 * np.finfo(float).eps * scale)
