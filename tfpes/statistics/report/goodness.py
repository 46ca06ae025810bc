"""How well a fit describes its own data, from the table alone."""

import dataclasses

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from scipy import stats

from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.mean import solve_mean
from tfpes.statistics.fit.results import EnergyFit
from tfpes.statistics.tables.rows import Rows

# Exponents beyond these are no measurement.
_EXPONENT_RANGE = (-20.0, 20.0)
_MOST_PASSES = 20
_TINY = float(np.finfo(float).tiny)


@dataclasses.dataclass(frozen=True)
class _SizeBin:
    """Structures of similar size: ``smallest`` to ``largest`` atoms."""

    smallest: int
    largest: int
    structures: float
    mean_square: float


@dataclasses.dataclass(frozen=True)
class SizeExponent:
    """Exponent ``p`` of ``variance = c N^p`` with its 95 % confidence interval."""

    exponent: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Standardized:
    """Moments of the standardized energies E'.

    Args:
        mean_square: mean of E'², 1 if the scale is right.
        kurtosis: mean of E'⁴ over the square of `mean_square`, 3 if normal.
        largest: greatest absolute E'.
        largest_composition: of the structure that has it, {atomic number: count}.
        bins: by size.
    """

    mean_square: float
    kurtosis: float
    largest: float
    largest_composition: dict[int, int]
    bins: list[_SizeBin]


def _residuals(
    rows: Rows, fit: EnergyFit
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean deviation from the fit, eV, and variance, eV², of each row."""
    deviation = rows.mean - rows.composition @ fit.mean
    variance = rows.composition @ fit.variance
    return deviation, variance + fit.collective_variance * rows.size**2


def standardized(rows: Rows, fit: EnergyFit) -> Standardized:
    """Return moments of E' over all structures, exact also for merged rows.

    With the deviation ``d`` of the mean of a row from the fit, ``sum E'² = (M2 + k
    d²)/s²`` and ``sum E'⁴ = (M4 + 4 d M3 + 6 d² M2 + k d⁴)/s⁴``.
    """
    deviation, variance = _residuals(rows, fit)
    k, m2 = rows.weight, rows.squared_deviations
    second = (m2 + k * deviation**2) / variance
    fourth = rows.fourth + 4 * deviation * rows.third
    fourth = (fourth + 6 * deviation**2 * m2 + k * deviation**4) / variance**2
    above = (rows.highest - rows.mean) + deviation
    below = (rows.lowest - rows.mean) + deviation
    greatest = np.maximum(np.abs(above), np.abs(below)) / np.sqrt(variance)
    worst = int(np.argmax(greatest))
    mean_square = float(second.sum() / k.sum())
    mean_fourth = float(fourth.sum() / k.sum())
    return Standardized(
        mean_square,
        mean_fourth / mean_square**2 if mean_square else float("nan"),
        float(greatest[worst]),
        rows.composition_of(worst),
        _bins(rows, second),
    )


def _bins(rows: Rows, second: NDArray[np.float64]) -> list[_SizeBin]:
    """Return bins that end at 1, 4, 16, 64, ... atoms, empty ones left out."""
    size = rows.size
    number = np.ceil(np.log(size) / np.log(4) - 1e-12).astype(int)
    bins = []
    for index in np.unique(number):
        inside = number == index
        weight = rows.weight[inside].sum()
        smallest = 4 ** (int(index) - 1) + 1 if index else 1
        mean_square = float(second[inside].sum() / weight)
        bins.append(_SizeBin(smallest, 4 ** int(index), float(weight), mean_square))
    return bins


def size_exponent(rows: Rows, fit: EnergyFit) -> SizeExponent | None:
    r"""Fit ``variance = c N^p`` to what is left after the mean, whatever the law.

    Maximises the same restricted normal likelihood as the fit, $\sum_c (k_c-h_c)\ln
    s_c^2 + R_c/s_c^2$, over $c$ and $p$: convex, and with $c$ eliminated a monotone
    equation in $p$. Mean and leverages follow by least squares with the same
    variance. Unlike a regression of $\ln r^2$ it needs no single residuals and is
    not ruled by the smallest of them. The interval takes the compositions as the
    independent units (sandwich, Student's t).

    Returns:
        None if there are not more than two compositions left after the means, or all
        structures have one size.
    """
    size = rows.size
    units = len(rows)
    if fit.degenerate or units - fit.rank < 3 or size.min() == size.max():
        return None
    target, _ = _residuals(rows, fit)
    design = Design(rows.composition[:, rows.elements()])
    x = np.log(size)
    x -= np.average(x, weights=rows.weight)
    exponent, change = 1.0, np.inf
    for _ in range(_MOST_PASSES):
        weight = rows.weight * np.exp(-exponent * x)
        mean = solve_mean(design, fit.basis, target, weight)
        squared = rows.squared_deviations + rows.weight * mean.residual**2
        freedom = np.maximum(rows.weight - mean.leverage, 0.0)
        found = _exponent(x, squared, freedom)
        if found is None:
            return None
        exponent, change = found, abs(found - exponent)
        if change < 1e-4:
            break
    ratio = squared * np.exp(-exponent * x)
    ratio *= freedom.sum() / ratio.sum()
    columns = np.stack([np.ones_like(x), x])
    bread = np.linalg.pinv((columns * ratio) @ columns.T, hermitian=True)
    score = columns * (freedom - ratio)
    left = units - fit.rank
    covariance = bread @ (score @ score.T) @ bread * units / left
    margin = float(stats.t.ppf(0.975, left) * np.sqrt(covariance[1, 1]))
    return SizeExponent(exponent, exponent - margin, exponent + margin)


def _exponent(
    x: NDArray[np.float64],
    squared: NDArray[np.float64],
    freedom: NDArray[np.float64],
) -> float | None:
    """Return the exponent of ``exp(x)`` that maximises the likelihood, or None."""
    average = np.sum(freedom * x) / freedom.sum()

    def excess(exponent: float) -> float:
        # Largest term taken out: N^p overflows for large sizes.
        scaled = -exponent * x
        share = squared * np.exp(scaled - scaled.max())
        return float(np.sum(share * (x - average)) / max(np.sum(share), _TINY))

    low, high = _EXPONENT_RANGE
    if excess(low) * excess(high) >= 0:
        return None
    return float(scipy.optimize.brentq(excess, low, high, xtol=1e-12))
