"""Centre, rank, means, degeneracy and size law: the estimator on checked input."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.laws import Spread, fit_law
from tfpes.statistics.fit.mean import centre, determined_basis, solve_mean
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit, LawFit, collective_threshold
from tfpes.statistics.fit.undetermined import as_combinations, null_vectors
from tfpes.statistics.tables.rows import Rows

ROUNDING = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Checked statistics that are known; what is not given is NaN, or None."""

    energy_mean: NDArray[np.float64]
    energy_variance: NDArray[np.float64]
    collective_variance: float | None
    reference: NDArray[np.float64]


def estimate(
    rows: Rows, options: FitOptions, given: Given, restricted: bool = True
) -> EnergyFit:
    """Fit mean and variance to the rows of a table."""
    elements = rows.elements()
    design = Design(rows.matrix(elements))
    weight, size = rows.weight, rows.size
    means = given.energy_mean[elements]
    reference, average = _reference(rows, design, elements, given)
    basis, undetermined, ill_conditioned = _basis(
        design, np.isnan(means), weight / size, elements
    )
    target = centre(design, reference, rows.mean, rows.mean_low)
    first = solve_mean(design, basis, target, weight / size)
    mean = reference + first.coefficient

    squared = rows.squared_deviations + weight * first.residual**2
    rank = basis.shape[1]
    freedom = weight.sum() - (rank if restricted else 0)
    rounding = np.sum(weight * (4 * ROUNDING * rows.mean) ** 2 / size)
    pooled = np.sum(squared / size) / freedom if freedom > 1e-9 * rank else 0.0
    degenerate = bool(pooled <= rounding / weight.sum())
    given_variance = given.energy_variance[elements]
    laws: dict[str, LawFit] = {}
    if degenerate:
        chosen, pooled, kappa = "independent", 1.0, given.collective_variance or 0.0
        variance = np.where(np.isnan(given_variance), 1.0, given_variance)
    else:
        spread = Spread(
            design,
            basis,
            weight,
            # About the first fit: the search is then free of the rounding of large
            # energies.
            centre(design, mean, rows.mean, rows.mean_low),
            rows.squared_deviations,
            float(pooled),
            given_variance,
            options.per_element,
            options.prior_strength,
            restricted,
        )
        fixed = given.collective_variance
        points = {}
        if fixed is None:
            for name in _fittable(size):
                laws[name], points[name] = fit_law(
                    spread, name == "collective", 0.0, laws.get("independent")
                )
            threshold = collective_threshold(float(weight.sum()), elements.size)
            chosen = _choose(options.size_law, laws, threshold)
        else:
            chosen = "collective" if fixed else "independent"
            laws[chosen], points[chosen] = fit_law(spread, False, fixed)
        mean = mean + points[chosen].mean.coefficient
        law = laws[chosen]
        variance, kappa = law.variance, law.collective_variance
        pooled = law.pooled_variance

    full_mean = np.where(np.isnan(given.reference), average, given.reference)
    full_mean = np.where(np.isnan(given.energy_mean), full_mean, given.energy_mean)
    full_mean[0] = 0.0
    full_reference = full_mean.copy()
    full_reference[elements] = reference
    full_mean[elements] = mean
    is_given = ~np.isnan(given.energy_variance)
    full_variance = np.where(is_given, given.energy_variance, pooled)
    full_variance[elements] = variance
    seen = np.zeros(NUMBER_OF_COLUMNS, bool)
    seen[elements] = True
    return EnergyFit(
        mean=full_mean,
        variance=full_variance,
        collective_variance=float(kappa),
        seen=seen,
        given_mean=~np.isnan(given.energy_mean),
        given_variance=is_given,
        size_law=chosen,
        degenerate=degenerate,
        rank=rank,
        undetermined=undetermined,
        ill_conditioned=ill_conditioned,
        pooled_variance=float(pooled),
        reference=full_reference,
        structures=float(weight.sum()),
        compositions=len(rows),
        basis=basis,
        laws=laws,
        isolated_included=options.isolated_atoms == "include",
    )


def _reference(
    rows: Rows, design: Design, elements: NDArray[np.int64], given: Given
) -> tuple[NDArray[np.float64], float]:
    """Return the reference of the elements seen, and the mean energy of an atom."""
    means = given.energy_mean[elements]
    known = np.where(np.isnan(means), given.reference[elements], means)
    free = np.isnan(known)
    atoms = design.predict(free.astype(float))
    rest = rows.mean - design.predict(np.where(free, 0.0, known))
    total = np.sum(rows.weight * atoms)
    average = float(np.sum(rows.weight * rest * (atoms > 0)) / total) if total else 0.0
    return np.where(free, average, known), average


def _basis(
    design: Design,
    free: NDArray[np.bool_],
    weight: NDArray[np.float64],
    elements: NDArray[np.int64],
) -> tuple[NDArray[np.float64], list, int]:
    """Return the basis of the free means, what is undetermined, and lost directions."""
    basis = np.zeros((design.columns, 0))
    if not free.any():
        return basis, [], 0
    part = design if free.all() else Design(design.matrix[:, np.flatnonzero(free)])
    null = null_vectors(part.matrix)
    inner = determined_basis(part, weight, null)
    basis = np.zeros((design.columns, inner.shape[1]))
    basis[free] = inner
    lost = part.columns - len(null) - inner.shape[1]
    return basis, as_combinations(null, elements[free]), lost


def _fittable(size: NDArray[np.float64]) -> tuple[str, ...]:
    # In structures of one size, kappa² and a shift of every sigma² are the same.
    one_size = size.min() == size.max()
    return ("independent",) if one_size else ("independent", "collective")


def _choose(size_law: str, laws: dict[str, LawFit], threshold: float) -> str:
    if "collective" not in laws:
        return "independent"
    if size_law != "auto":
        return size_law
    gain = laws["collective"].log_likelihood - laws["independent"].log_likelihood
    return "collective" if 2 * gain > threshold else "independent"
