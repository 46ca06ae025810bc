"""Winsorising: values far from the fit are pulled in, not thrown out."""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import stats

from tfpes.statistics.fit.results import EnergyFit
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows

CUT = 2.5
_PASSES = 3


def consistency(components: int = 1) -> float:
    """Return what is left of a variance by the cut: 0.978 for one component.

    Args:
        components: normal variables, whose root mean square is pulled in.
    """
    most = components * CUT**2
    below = stats.chi2.cdf(most, components + 2)
    return float(below + CUT**2 * stats.chi2.sf(most, components))


def median(components: int = 1) -> float:
    """Return the median root mean square of so many standard normal variables."""
    return float(np.sqrt(stats.chi2.median(components) / components))


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
    structures: Rows,
    fit: EnergyFit,
    refit: Callable[[Rows], EnergyFit],
    components: int = 1,
) -> EnergyFit:
    """Fit again, three times, with values pulled in to within 2.5 deviations.

    Args:
        structures: one row each.
        fit: to the values as they are.
        refit: the estimator.
        components: each value is the root mean square of so many.
    """
    compositions = fit.compositions
    for _ in range(_PASSES):
        pulled, clipped = _winsorise(structures, fit, components)
        fit = refit(pulled)
        fit = dataclasses.replace(fit, compositions=compositions, clipped=clipped)
        if fit.degenerate:  # nothing but outliers had a spread
            return fit
    shrunk = consistency(components)
    kappa_is_free = len(fit.laws) > 1
    kappa = fit.collective_variance
    return dataclasses.replace(
        fit,
        variance=np.where(fit.given_variance, fit.variance, fit.variance / shrunk),
        pooled_variance=fit.pooled_variance / shrunk,
        collective_variance=kappa / shrunk if kappa_is_free else kappa,
    )


def _winsorise(rows: Rows, fit: EnergyFit, components: int) -> tuple[Rows, int]:
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
    middle = order[np.searchsorted(total, total[-1] / 2)]
    spread = np.abs(distance[middle]) / median(components)
    limit = CUT * (spread or 1.0)
    pulled = np.abs(distance) > limit
    value = predicted + np.clip(distance, -limit, limit) * scale
    # Values that stay must keep all their digits.
    value = np.where(pulled, value, rows.mean)
    return Rows.single(rows.composition, value, rows.weight), int(pulled.sum())
