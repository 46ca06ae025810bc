"""What the estimators return."""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, eq=False)
class LawFit:
    """The fit of one size law.

    Args:
        variance: ``sigma²`` of the elements seen, in the order of their numbers,
            eV², shape (T,).
        pooled_variance: one ``sigma²`` for all elements.
        collective_variance: ``kappa²``, eV².
        variance_error: standard errors of `variance`; 0 where that is given or at its
            least value, shape (T,).
        collective_error: standard error of ``kappa²``, likewise.
        log_likelihood: restricted, at the fit, without the prior.
        pooled_log_likelihood: the same with one ``sigma²`` for all elements.
        objective: what the solver minimised, prior included.
        iterations: of the solver.
        converged: whether it reached its tolerance.
    """

    variance: NDArray[np.float64]
    pooled_variance: float
    collective_variance: float
    variance_error: NDArray[np.float64]
    collective_error: float
    log_likelihood: float
    pooled_log_likelihood: float
    objective: float
    iterations: int
    converged: bool


def asks_for_kappa(laws: Mapping[str, LawFit], structures: float) -> bool:
    """Return whether the data clearly ask for the collective law.

    They do if its gain in log-likelihood exceeds ``(ln(structures) + 2) / 2``, the
    price of one more number, both with a variance for each element and with one for
    all. The first alone is not enough: the prior holds variances that differ much
    between elements off their best values, which kappa can make up for in part. The
    second alone takes differences between elements for kappa.
    """
    if len(laws) < 2:
        return False
    one, other = laws["independent"], laws["collective"]
    gain = min(
        other.log_likelihood - one.log_likelihood,
        other.pooled_log_likelihood - one.pooled_log_likelihood,
    )
    return bool(2 * gain > np.log(max(structures, 1.0)) + 2)


@dataclasses.dataclass(frozen=True, eq=False)
class EnergyFit:
    """Mean and variance of the energy: result of `fit_energy`.

    Arrays are indexed by atomic number and have shape (119,).

    Args:
        mean: ``mu``, eV; the reference for elements never seen, 0 for padding.
        variance: ``sigma²``, eV²; the pooled one for elements never seen.
        collective_variance: ``kappa²``, eV²; 0 under the independent law.
        seen: elements in the data.
        given_mean: elements whose mean was given.
        given_variance: elements whose variance was given.
        size_law: the law used, ``"independent"`` or ``"collective"``.
        degenerate: the energies are exactly linear in the composition (or there is
            nothing left to estimate a spread from); the variances are then 1.
        rank: number of combinations of elements that the data determine.
        undetermined: combinations that they do not, {atomic number: coefficient}:
            adding any multiple to ``mu`` changes no prediction.
        ill_conditioned: further combinations lost in rounding.
        pooled_variance: one ``sigma²`` for all elements, eV².
        structures: sum of weights.
        compositions: number of distinct compositions.
        basis: combinations of the elements seen that are fitted, shape (T, rank).
        laws: fits of each law, by name; empty if degenerate.
        part: what was fitted, as `CompositionTable.rows` takes it: False without
            isolated atoms, None with them.
        clipped: structures that a robust fit pulled in; 0 otherwise.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    collective_variance: float
    seen: NDArray[np.bool_]
    given_mean: NDArray[np.bool_]
    given_variance: NDArray[np.bool_]
    size_law: str
    degenerate: bool
    rank: int
    undetermined: list[dict[int, Fraction]]
    ill_conditioned: int
    pooled_variance: float
    structures: float
    compositions: int
    basis: NDArray[np.float64]
    laws: dict[str, LawFit]
    part: bool | None
    clipped: int = 0

    def __repr__(self) -> str:
        """Return a summary; the arrays are too wide to print."""
        kappa = float(np.sqrt(self.collective_variance))
        return (
            f"<EnergyFit: {int(self.seen.sum())} elements, rank {self.rank}, "
            f"{self.compositions} compositions, {self.size_law} law, "
            f"kappa {kappa:.4g}{', degenerate' if self.degenerate else ''}>"
        )

    @property
    def iterations(self) -> int:
        """Iterations of the solver, for the law used."""
        return self.laws[self.size_law].iterations if self.laws else 0

    @property
    def deviation_error(self) -> NDArray[np.float64]:
        r"""By how much $\sigma$ grows if $\sigma^2$ does by its standard error, (119,).

        $\sqrt{\sigma^2+\Delta} - \sigma$: for small errors $\Delta/2\sigma$, and finite
        for small $\sigma$. NaN where nothing is known of it: elements not seen, given,
        or at the least variance.
        """
        error = np.full(self.variance.shape, np.nan)
        if self.laws:
            law = self.laws[self.size_law]
            relative = np.where(law.variance_error > 0, law.variance_error, np.nan)
            error[self.seen] = np.sqrt(1 + relative / law.variance) - 1
        return error * np.sqrt(self.variance)

    @property
    def converged(self) -> bool:
        """Whether the solver reached its tolerance."""
        return all(law.converged for law in self.laws.values())

    @property
    def log_likelihood(self) -> dict[str, float]:
        """Restricted log-likelihood of each law."""
        return {name: law.log_likelihood for name, law in self.laws.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class ScaleFit:
    """Scale of forces: result of `fit_forces`.

    ``np.asarray(fit)`` is its `scale`.

    Args:
        scale: ``eta``, eV/Å, shape (119,); the pooled one for elements without labels.
        seen: elements with labels, shape (119,).
        pooled_scale: one scale for all elements.
        degenerate: there are no labels or all are zero; the scales are then 1.
        largest_share: of the squared forces that 1 % of the atoms carry, those with the
            largest.
    """

    scale: NDArray[np.float64]
    seen: NDArray[np.bool_]
    pooled_scale: float
    degenerate: bool
    largest_share: float = 0.0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Return `scale`."""
        return np.array(self.scale, dtype)
