"""Winsorising: energies far from the fit are pulled in, not thrown out."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import stats

from tfpes.statistics.fit.results import EnergyFit
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows

_CUT = 2.5
_PASSES = 3
# Variance of a standard normal variable clipped at the cut, 0.978.
_CONSISTENCY = float(
    stats.norm.cdf(_CUT)
    - stats.norm.cdf(-_CUT)
    - 2 * _CUT * stats.norm.pdf(_CUT)
    + 2 * _CUT**2 * stats.norm.sf(_CUT)
)
# Median of the absolute value of a standard normal variable.
_HALF = float(stats.norm.ppf(0.75))


def single_structures(table: CompositionTable, part: bool | None) -> Rows:
    """Return one row per structure of a part of the table.

    Raises:
        ValueError: if structures were not kept and share compositions.
    """
    kept = table.structure_rows(isolated=part)
    if kept is not None:
        return kept
    rows = table.rows(isolated=part)
    if np.any(rows.lowest != rows.highest):
        raise ValueError(
            "A robust fit needs every single energy. Received: a table that kept only "
            "the moments of each composition. Build it with "
            "`CompositionTable(keep_structures=True)`."
        )
    return rows


def fit_robust(
    structures: Rows, fit: EnergyFit, refit: Callable[[Rows], EnergyFit]
) -> EnergyFit:
    """Fit again, three times, with energies pulled in to within 2.5 deviations.

    Args:
        structures: one row each.
        fit: to the energies as they are.
        refit: the estimator.
    """
    compositions = fit.compositions
    for _ in range(_PASSES):
        pulled, clipped = _winsorise(structures, fit)
        fit = refit(pulled)
        fit = dataclasses.replace(fit, compositions=compositions, clipped=clipped)
        if fit.degenerate:  # nothing but outliers had a spread
            return fit
    kappa_is_free = len(fit.laws) > 1
    kappa = fit.collective_variance
    return dataclasses.replace(
        fit,
        variance=np.where(
            fit.given_variance, fit.variance, fit.variance / _CONSISTENCY
        ),
        pooled_variance=fit.pooled_variance / _CONSISTENCY,
        collective_variance=kappa / _CONSISTENCY if kappa_is_free else kappa,
    )


def _winsorise(rows: Rows, fit: EnergyFit) -> tuple[Rows, int]:
    """Pull values to within 2.5 standard deviations of a fit.

    The standard deviations of the fit are first rescaled as a whole, by the median
    absolute deviation, because outliers have inflated them.

    Returns:
        The rows with new values, and how many were changed.
    """
    predicted = rows.composition @ fit.mean
    variance = rows.composition @ fit.variance
    scale = np.sqrt(variance + rows.size**2 * fit.collective_variance)
    distance = (rows.mean - predicted) / scale
    order = np.argsort(np.abs(distance), kind="stable")
    total = np.cumsum(rows.weight[order])
    median = order[np.searchsorted(total, total[-1] / 2)]
    spread = np.abs(distance[median]) / _HALF
    limit = _CUT * (spread or 1.0)
    pulled = np.abs(distance) > limit
    value = predicted + np.clip(distance, -limit, limit) * scale
    # Values that stay must keep all their digits.
    value = np.where(pulled, value, rows.mean)
    return Rows.single(rows.composition, value, rows.weight), int(pulled.sum())
