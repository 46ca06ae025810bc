"""Mean and variance of the energy of each element."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS, by_atomic_number
from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.laws import fit_law
from tfpes.statistics.fit.likelihood import Data
from tfpes.statistics.fit.mean import determined_basis, solve_mean
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit, LawFit, asks_for_kappa
from tfpes.statistics.fit.robust import fit_robust, single_structures
from tfpes.statistics.fit.undetermined import as_combinations, null_vectors
from tfpes.statistics.tables.checks import first
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows

_EPS = float(np.finfo(np.float64).eps)


def fit_energy(
    table: CompositionTable,
    options: FitOptions = FitOptions(),
    *,
    energy_mean: ArrayLike | Mapping[Any, float] | None = None,
    energy_variance: ArrayLike | Mapping[Any, float] | None = None,
    collective_variance: float | None = None,
    reference: ArrayLike | Mapping[Any, float] | None = None,
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
        energy_mean: known means, eV (symbol or Z to number, or an array of shape
            (119,), NaN for those to fit).
        energy_variance: known variances, eV².
        collective_variance: known ``kappa²``, eV²; takes the place of the size law.
        reference: energy of an atom of each element, eV: what is undetermined stays as
            close to it as possible. By default that of isolated atoms in the table, or
            else the mean energy of an atom.

    Raises:
        ValueError: for given statistics of a wrong shape or value, if the table holds
            no energy, and for a robust fit of a table that did not keep structures.

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
    if reference is None:
        reference = _isolated_atoms(table)
    known = _Known(
        _per_element("energy_mean", energy_mean),
        _per_element("energy_variance", energy_variance, positive=True),
        collective_variance,
        _per_element("reference", reference),
    )
    part = None if options.isolated_atoms == "include" else False
    rows = table.rows(isolated=part)
    if not len(rows):
        raise _empty(table)
    structures = single_structures(table, part) if options.robust else None
    fit = _fit(rows, options, known)
    if structures is None or fit.degenerate:
        return fit
    return fit_robust(structures, fit, lambda rows: _fit(rows, options, known))


def fit_spread(
    table: CompositionTable, options: FitOptions, components: int
) -> EnergyFit:
    """Estimate variances of a property of mean 0 from a table of its squares.

    Args:
        table: mean squares of the components, by composition.
        options: how to fit.
        components: of the property.

    Raises:
        ValueError: if a square is negative, or there is none.
    """
    rows = table.rows()
    if not len(rows):
        raise _empty(table)
    if np.any(rows.lowest < 0):
        raise ValueError(
            "A spread is fitted to mean squares. Received: the value "
            f"{rows.lowest.min()}. Update the table with `split_virial`."
        )
    nothing = np.full(NUMBER_OF_COLUMNS, np.nan)
    known = _Known(np.zeros(NUMBER_OF_COLUMNS), nothing, None, nothing)

    def fit_squares(rows: Rows, mean_square: NDArray[np.float64]) -> EnergyFit:
        zero, squares = np.zeros(len(rows)), rows.weight * mean_square
        rows = dataclasses.replace(rows, mean=zero, squared_deviations=squares)
        return _fit(rows, options, known)

    fit = fit_squares(rows, rows.mean)
    if not options.robust or fit.degenerate:
        return fit
    structures = single_structures(table, False)
    structures = dataclasses.replace(structures, mean=np.sqrt(structures.mean))
    return fit_robust(
        structures, fit, lambda rows: fit_squares(rows, rows.mean**2), components
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Known:
    """Statistics that are given, (119,): NaN, or None, where they are not."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    kappa: float | None
    reference: NDArray[np.float64]


def _fit(
    rows: Rows, options: FitOptions, known: _Known, restricted: bool = True
) -> EnergyFit:
    """Estimate from the rows of a table, in six steps.

    `restricted` is False for maximum likelihood, which takes no account of the degrees
    of freedom that the means use up.
    """
    elements = rows.elements()
    design = Design(rows.composition[:, elements])
    weight, size = rows.weight, rows.size
    free = np.isnan(known.mean[elements])

    # 1. Centre: energies count from a reference of each element.
    reference = _reference(rows, known)
    target = rows.mean - design.predict(reference[elements])

    # 2. Means by least squares, as far as the compositions determine them.
    # 5. What they do not determine stays at the reference.
    null = null_vectors(design.matrix[:, free])
    basis = determined_basis(design, weight / size, free, null)
    rank = basis.shape[1]
    start = solve_mean(design, basis, target, weight / size)
    mean = reference.copy()
    mean[elements] += start.coefficient

    # 3. One variance per atom for all. Below rounding, or without degrees of freedom,
    # the energies are exactly linear: nothing is left to estimate.
    squared = rows.squared_deviations + weight * start.residual**2
    freedom = weight.sum() - (rank if restricted else 0)
    pooled = np.sum(squared / size) / freedom if freedom > 1e-9 * rank else 0.0
    rounding = np.sum(weight * (4 * _EPS * rows.mean) ** 2 / size) / weight.sum()
    degenerate = bool(pooled <= rounding)

    # 4. Variances of each element under each law, and the choice between the laws.
    laws: dict[str, LawFit] = {}
    law, kappa = "independent", known.kappa or 0.0
    variance = np.ones(elements.size)
    if degenerate:
        pooled = 1.0
    else:
        # About the first fit, so that the rounding of large energies is gone.
        target = (rows.mean - design.predict(mean[elements])) / np.sqrt(pooled)
        deviations = rows.squared_deviations / pooled
        data = Data(design, basis, weight, target, deviations, pooled, restricted)
        laws, change = _fit_laws(data, known.variance[elements], options, known.kappa)
        law = _choose(options.size_law, laws, weight.sum())
        mean[elements] += change[law]
        variance = laws[law].variance
        pooled, kappa = laws[law].pooled_variance, laws[law].collective_variance

    # 6. Elements never seen: the reference and the pooled variance.
    full = np.full(NUMBER_OF_COLUMNS, pooled)
    full[elements] = variance
    given = ~np.isnan(known.variance)
    return EnergyFit(
        mean=mean,
        variance=np.where(given, known.variance, full),
        collective_variance=float(kappa),
        seen=np.isin(np.arange(NUMBER_OF_COLUMNS), elements),
        given_mean=~np.isnan(known.mean),
        given_variance=given,
        size_law=law,
        degenerate=degenerate,
        rank=rank,
        undetermined=as_combinations(null, elements[free]),
        ill_conditioned=int(free.sum()) - len(null) - rank,
        pooled_variance=float(pooled),
        structures=float(weight.sum()),
        compositions=len(rows),
        basis=basis,
        laws=laws,
        part=None if options.isolated_atoms == "include" else False,
    )


def _isolated_atoms(table: CompositionTable) -> NDArray[np.float64]:
    """Return the mean energies of isolated atoms, (119,), NaN where there are none."""
    energy = np.full(NUMBER_OF_COLUMNS, np.nan)
    rows = table.rows(isolated=True)
    energy[rows.composition.indices] = rows.mean
    return energy


def _reference(rows: Rows, known: _Known) -> NDArray[np.float64]:
    """Return what is known of the mean of each element, else one mean per atom."""
    given = np.where(np.isnan(known.mean), known.reference, known.mean)
    free = np.isnan(given)
    atoms = rows.composition @ free.astype(float)
    rest = rows.mean - rows.composition @ np.where(free, 0.0, given)
    total = np.sum(rows.weight * atoms)
    average = np.sum(rows.weight * rest * (atoms > 0)) / total if total else 0.0
    given[free] = average
    given[0] = 0.0
    return given


def _fit_laws(
    data: Data, given: NDArray[np.float64], options: FitOptions, kappa: float | None
) -> tuple[dict[str, LawFit], dict[str, NDArray[np.float64]]]:
    """Return the fit of each law that can be told, and its change of the means."""
    laws, change = {}, {}
    if kappa is not None:
        law = "collective" if kappa else "independent"
        laws[law], change[law] = fit_law(data, given, options, kappa=kappa)
        return laws, change
    laws["independent"], change["independent"] = fit_law(data, given, options)
    # In structures of one size, kappa² and a shift of every sigma² are the same.
    if data.size.min() < data.size.max():
        laws["collective"], change["collective"] = fit_law(
            data, given, options, collective=True, nested=laws["independent"]
        )
    return laws, change


def _choose(size_law: str, laws: dict[str, LawFit], structures: float) -> str:
    if len(laws) == 1:
        return next(iter(laws))
    if size_law != "auto":
        return size_law
    return "collective" if asks_for_kappa(laws, structures) else "independent"


def _per_element(
    name: str, values: Any, *, positive: bool = False
) -> NDArray[np.float64]:
    """Return values by atomic number (119,), NaN where not given, or raise."""
    if values is None:
        return np.full(NUMBER_OF_COLUMNS, np.nan)
    array = by_atomic_number(values, name)
    where = first(np.isinf(array) | (positive & (array <= 0)))
    if where is not None:
        rule = "finite and positive" if positive else "finite"
        raise ValueError(
            f"`{name}` must be {rule}, or NaN where not given. Received: "
            f"{array[where]} for atomic number {where}."
        )
    return array


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
