"""Winsorising: energies far from the fit are pulled in, not thrown out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tfpes.statistics.fit.results import EnergyFit
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows

CUT = 2.5
PASSES = 3
# Variance of a standard normal variable clipped at the cut, 0.978.
CONSISTENCY = float(
    stats.norm.cdf(CUT)
    - stats.norm.cdf(-CUT)
    - 2 * CUT * stats.norm.pdf(CUT)
    + 2 * CUT**2 * stats.norm.sf(CUT)
)
# Median of the absolute value of a standard normal variable.
HALF = float(stats.norm.ppf(0.75))


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


def winsorise(rows: Rows, fit: EnergyFit) -> tuple[Rows, int]:
    """Pull values to within 2.5 standard deviations of a fit.

    The standard deviations of the fit are first rescaled as a whole, by the median
    absolute deviation, because outliers have inflated them.

    Returns:
        The rows with new values, and how many were changed.
    """
    composition = rows.full_matrix()
    predicted = composition @ fit.mean
    scale = np.sqrt(composition @ fit.variance + rows.size**2 * fit.collective_variance)
    distance = (rows.mean - predicted) / scale
    spread = _weighted_median(np.abs(distance), rows.weight) / HALF
    if spread == 0:
        spread = 1.0
    limit = CUT * spread
    pulled = np.abs(distance) > limit
    value = predicted + np.clip(distance, -limit, limit) * scale
    # Values that stay must keep all their digits.
    return rows.replace_values(np.where(pulled, value, rows.mean)), int(pulled.sum())


def _weighted_median(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
