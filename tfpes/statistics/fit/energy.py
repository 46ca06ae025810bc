"""Mean and variance of the energy of each element."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from tfpes.statistics.fit.estimate import Options, estimate
from tfpes.statistics.fit.results import EnergyFit, SizeLaw
from tfpes.statistics.fit.robust import (
    CONSISTENCY,
    PASSES,
    single_structures,
    winsorise,
)
from tfpes.statistics.tables.checks import check_option, check_per_element
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows

ROUNDING = float(np.finfo(np.float64).eps)


def fit_energy(
    table: CompositionTable,
    *,
    size_law: str = "independent",
    per_element: bool = True,
    prior_strength: float = 10.0,
    robust: bool = False,
    isolated_atoms: str = "exclude",
    reference: ArrayLike | None = None,
    energy_mean: ArrayLike | None = None,
    energy_variance: ArrayLike | None = None,
    collective_variance: float | None = None,
    restricted: bool = True,
    label_eps: float = ROUNDING,
) -> EnergyFit:
    r"""Estimate $\mu$, $\sigma^2$ and $\kappa^2$ from a table of energies.

    The model is $E \sim \mathrm{Normal}(n\cdot\mu,\; n\cdot\sigma^2 + N^2\kappa^2)$,
    fitted by restricted maximum likelihood with a weak prior: ``prior_strength``
    imaginary structures of each pure element, of the mean size of the data, whose
    squared deviation per atom is the pooled one. It keeps variances positive and
    sends what the data cannot tell to the pooled variance.

    Args:
        table: energies by composition, eV.
        size_law: ``"independent"`` ($\kappa = 0$), ``"collective"``, or ``"auto"``:
            collective where twice its gain in log-likelihood exceeds
            ``ln(structures) + 2 + elements``.
        per_element: False for one variance common to all elements.
        prior_strength: number of imaginary structures, at least 0.
        robust: pull energies farther than 2.5 standard deviations in to there.
        isolated_atoms: ``"exclude"`` or ``"include"``.
        reference: energy of an atom of each element, NaN where unknown, shape
            (119,): what is undetermined stays as close to it as possible. By
            default the mean energy of an atom.
        energy_mean: known means, NaN for those to fit, shape (119,).
        energy_variance: known variances, NaN for those to fit, shape (119,).
        collective_variance: known ``kappa²``; takes the place of `size_law`.
        restricted: False for maximum likelihood, which takes no account of the
            degrees of freedom that the mean uses up.
        label_eps: relative rounding error of the energies; pass
            ``np.finfo(np.float32).eps`` if they were ever stored in float32.

    Raises:
        ValueError: for options out of range, and if the table holds no energy.

    Example:
        >>> import numpy as np
        >>> composition = np.zeros((4, 119))
        >>> composition[:, 29] = [1, 2, 3, 6]
        >>> table = CompositionTable()
        >>> table.update(composition, [-1.1, -1.8, -3.3, -5.8])
        >>> fit = fit_energy(table, isolated_atoms="include")
        >>> round(float(fit.mean[29]), 12), round(float(1 / fit.variance[29]), 9)
        (-1.0, 45.0)

    Reference:
        Patterson, Thompson, Biometrika 58, 545 (1971).
    """
    check_option("size_law", size_law, get_args(SizeLaw))
    check_option("isolated_atoms", isolated_atoms, ("exclude", "include"))
    if not prior_strength >= 0:
        raise ValueError(
            "`prior_strength` is a number of imaginary structures, at least 0. "
            f"Received: {prior_strength}. The default is 10."
        )
    if collective_variance is not None and not 0 <= collective_variance < np.inf:
        raise ValueError(
            "`collective_variance` must be finite and not negative. Received: "
            f"{collective_variance}. Pass None to have it fitted."
        )
    options = Options(
        size_law,
        per_element,
        float(prior_strength),
        restricted,
        label_eps,
        check_per_element("reference", reference),
        check_per_element("energy_mean", energy_mean),
        check_per_element("energy_variance", energy_variance, positive=True),
        collective_variance,
    )
    include = isolated_atoms == "include"
    part = None if include else False
    rows = table.rows(isolated=part)
    if not len(rows):
        raise _empty(table)
    structures = single_structures(table, part) if robust else None
    fit = estimate(rows, options, include)
    if structures is None or fit.degenerate:
        return fit
    return _fit_robust(rows, structures, options, fit)


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
    rows: Rows, structures: Rows, options: Options, fit: EnergyFit
) -> EnergyFit:
    clipped = 0
    for _ in range(PASSES):
        pulled, clipped = winsorise(structures, fit)
        fit = estimate(pulled, options, fit.isolated_included)
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
            kappa / CONSISTENCY if options.collective_variance is None else kappa
        ),
        compositions=len(rows),
        clipped=clipped,
    )
