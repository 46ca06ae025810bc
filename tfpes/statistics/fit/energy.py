"""Mean and variance of the energy of each element."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from tfpes.statistics.fit.estimate import Given, estimate
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit
from tfpes.statistics.fit.robust import (
    CONSISTENCY,
    PASSES,
    single_structures,
    winsorise,
)
from tfpes.statistics.tables.checks import check_per_element
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows


def fit_energy(
    table: CompositionTable,
    options: FitOptions = FitOptions(),
    *,
    energy_mean: ArrayLike | None = None,
    energy_variance: ArrayLike | None = None,
    collective_variance: float | None = None,
    reference: ArrayLike | None = None,
) -> EnergyFit:
    r"""Estimate $\mu$, $\sigma^2$ and $\kappa^2$ from a table of energies.

    The model is $E \sim \mathrm{Normal}(n\cdot\mu,\; n\cdot\sigma^2 + N^2\kappa^2)$,
    fitted by restricted maximum likelihood with a weak prior: ``prior_strength``
    imaginary structures of each pure element, of the mean size of the data, whose
    squared deviation per atom is the pooled one. It keeps variances positive and
    sends what the data cannot tell to the pooled variance.

    Args:
        table: energies by composition, eV.
        options: how to fit.
        energy_mean: known means, NaN for those to fit, shape (119,).
        energy_variance: known variances, NaN for those to fit, shape (119,).
        collective_variance: known ``kappa²``; takes the place of the size law.
        reference: energy of an atom of each element, NaN where unknown, shape
            (119,): what is undetermined stays as close to it as possible. By
            default the mean energy of an atom.

    Raises:
        ValueError: for given statistics of a wrong shape or value, and if the table
            holds no energy.

    Example:
        >>> import numpy as np
        >>> composition = np.zeros((4, 119))
        >>> composition[:, 29] = [1, 2, 3, 6]
        >>> table = CompositionTable()
        >>> table.update(composition, [-1.1, -1.8, -3.3, -5.8])
        >>> fit = fit_energy(table, FitOptions(isolated_atoms="include"))
        >>> round(float(fit.mean[29]), 12), round(float(1 / fit.variance[29]), 9)
        (-1.0, 45.0)

    Reference:
        Patterson, Thompson, Biometrika 58, 545 (1971).
    """
    if collective_variance is not None and not 0 <= collective_variance < np.inf:
        raise ValueError(
            "`collective_variance` must be finite and not negative. Received: "
            f"{collective_variance}. Pass None to have it fitted."
        )
    given = Given(
        check_per_element("energy_mean", energy_mean),
        check_per_element("energy_variance", energy_variance, positive=True),
        collective_variance,
        check_per_element("reference", reference),
    )
    include = options.isolated_atoms == "include"
    part = None if include else False
    rows = table.rows(isolated=part)
    if not len(rows):
        raise _empty(table)
    structures = single_structures(table, part) if options.robust else None
    fit = estimate(rows, options, given)
    if structures is None or fit.degenerate:
        return fit
    return _fit_robust(rows, structures, options, given, fit)


def _empty(table: CompositionTable) -> ValueError:
    seen = table.counts_seen
    advice = (
        "Pass `isolated_atoms='include'` to use them."
        if table.isolated_structures
        else "Check that the data have energies."
    )
    return ValueError(
        "Energy statistics need at least one structure with an energy. Received: "
        f"{seen['received']} structures, of which {seen['missing']} without energy, "
        f"{seen['weightless']} with weight 0, {seen['empty']} without atoms and "
        f"{table.isolated_structures} isolated atoms. {advice}"
    )


def _fit_robust(
    rows: Rows, structures: Rows, options: FitOptions, given: Given, fit: EnergyFit
) -> EnergyFit:
    clipped = 0
    for _ in range(PASSES):
        pulled, clipped = winsorise(structures, fit)
        fit = estimate(pulled, options, given)
        if fit.degenerate:  # nothing but outliers had a spread
            return dataclasses.replace(fit, compositions=len(rows), clipped=clipped)
    free = ~fit.given_variance
    variance = np.where(free, fit.variance / CONSISTENCY, fit.variance)
    kappa = fit.collective_variance
    return dataclasses.replace(
        fit,
        variance=variance,
        pooled_variance=fit.pooled_variance / CONSISTENCY,
        collective_variance=(
            kappa / CONSISTENCY if given.collective_variance is None else kappa
        ),
        compositions=len(rows),
        clipped=clipped,
    )
