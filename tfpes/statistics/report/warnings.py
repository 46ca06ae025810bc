"""Warnings that say what is the matter, whether it matters, and what to do."""

from fractions import Fraction

import numpy as np

from tfpes.elements import SYMBOLS, join_symbols
from tfpes.statistics.fit.results import EnergyFit, ScaleFit, asks_for_kappa
from tfpes.statistics.report.goodness import SizeExponent, Standardized
from tfpes.statistics.tables.rows import Rows

_FEW_STRUCTURES = 3
_HEAVY_TAILS = 30.0
_FAR_OUT = 20.0
_LARGE_SHARE = 1 / 3
# A bin off by this factor, with this many structures, is no accident.
_BIN_FACTOR, _BIN_STRUCTURES = 3.0, 20


def combination(coefficients: dict[int, Fraction]) -> str:
    """Return a combination of elements as text: ``H : -1/2, O : +1``."""
    parts = [
        f"{SYMBOLS[z]} : {'+' if value > 0 else ''}{value}"
        for z, value in sorted(coefficients.items())
    ]
    return ", ".join(parts)


def rare_elements(rows: Rows, fit: EnergyFit) -> list[int]:
    """Return the elements seen in fewer than three structures."""
    number = rows.structures_per_element()
    return np.flatnonzero(fit.seen & (number < _FEW_STRUCTURES)).tolist()


def energy_warnings(
    rows: Rows,
    left_out: int,
    fit: EnergyFit,
    moments: Standardized,
    exponent: SizeExponent | None,
) -> list[str]:
    """Return the warnings about the energies."""
    found = []
    if fit.undetermined:
        text = "; ".join(f"({combination(c)})" for c in fit.undetermined)
        found.append(
            f"The compositions do not determine every mean energy: rank {fit.rank}. "
            f"Undetermined combinations: {text}. Any multiple of them could be added "
            "to the means without changing a single prediction on these data, so "
            "losses and baselines are exact; but single means are a convention, the "
            f"closest to {_closest(left_out)}, and predictions for other ratios of "
            "these elements are not to be trusted. To fix them, add structures of "
            "other ratios, isolated atoms, or pass `energy_mean` for some elements."
        )
    if fit.ill_conditioned:
        found.append(
            f"{fit.ill_conditioned} more combinations of elements are determined only "
            "below rounding and treated as undetermined. Predictions on these data "
            "are not affected. Add structures with more varied compositions."
        )
    if fit.degenerate:
        found.append(
            "The energies are exactly linear in the composition, or there are no more "
            "structures than means to fit: no spread is left to estimate. Variances "
            "were set to 1 eV², so energy losses are in eV² and not standardized. "
            "Add data, or pass `energy_variance`." + _light_weights(rows)
        )
    rare = rare_elements(rows, fit)
    if rare:
        found.append(
            f"Seen in fewer than {_FEW_STRUCTURES} structures: {join_symbols(rare)}. "
            "Their means follow these few structures, and their variances are close "
            "to the pooled one. Harmless for the others; add data for these elements, "
            "or pass `energy_mean` for them."
        )
    # With one combination, compositions differ in size alone.
    if fit.rank > 1 and fit.compositions < 3 * fit.rank and not fit.degenerate:
        found.append(
            f"Only {fit.compositions} distinct compositions for {fit.rank} means. The "
            "means fit their own compositions closely; expect larger deviations on "
            "new ones. Add compositions rather than more frames of the same."
        )
    if not fit.converged:
        found.append(
            "The variances did not converge to 1e-8. They are safe to use; please "
            "report the data set."
        )
    return found + _shape_warnings(fit, moments, exponent)


def _closest(isolated: int) -> str:
    if isolated:
        return "the energies of the isolated atoms"
    return "the mean energy of an atom"


def _light_weights(rows: Rows) -> str:
    number, weight = int(rows.number.sum()), rows.weight.sum()
    if weight >= number:
        return ""
    return (
        f" The weights of {number} structures add up to {weight:.4g}; they "
        "count as frequencies, so scale them to a mean of 1."
    )


def _shape_warnings(
    fit: EnergyFit, moments: Standardized, exponent: SizeExponent | None
) -> list[str]:
    found: list[str] = []
    if fit.degenerate:
        return found
    if moments.kurtosis > _HEAVY_TAILS or moments.largest > _FAR_OUT:
        found.append(
            f"Heavy tails: kurtosis {moments.kurtosis:.3g} (3 if normal), largest |E'| "
            f"{moments.largest:.3g}. A few structures rule the variances and would "
            "rule a squared loss. Look at that composition; the Huber metric "
            "tames such energies in the loss. `robust=True` keeps them out of the "
            "variances, but a squared loss then gives them more weight."
        )
    off = [
        b
        for b in moments.bins
        if b.structures >= _BIN_STRUCTURES
        and not 1 / _BIN_FACTOR < b.mean_square < _BIN_FACTOR
    ]
    if off:
        text = ", ".join(
            f"{b.mean_square:.2g} at {b.smallest}-{b.largest} atoms" for b in off
        )
        found.append(
            f"The mean square of E' is far from 1 for some sizes: {text}. Such "
            "structures count more (above 1) or less in the loss than others."
        )
    if len(fit.laws) < 2:
        return found
    gain = fit.log_likelihood["collective"] - fit.log_likelihood["independent"]
    if fit.size_law == "independent" and asks_for_kappa(fit.laws, fit.structures):
        measured = (
            f" (spread grows as N^{exponent.exponent / 2:.2f}, not N^0.5)"
            if exponent
            else ""
        )
        found.append(
            f"The collective size law fits better by {gain:.4g} in log-likelihood"
            f"{measured}: large structures dominate the loss under the independent "
            "law. Pass `size_law='collective'` or `'auto'`."
        )
    if fit.size_law == "collective" and gain < 0:
        found.append(
            f"The independent size law fits better by {-gain:.4g} in log-likelihood. "
            "Pass `size_law='independent'` or `'auto'`."
        )
    return found


def scale_warnings(name: str, degenerate: bool, scale: str) -> list[str]:
    """Return the warnings about forces or virials, whose scale has a name."""
    if not degenerate:
        return []
    return [
        f"There are no labels for the {name}, or all are 0: their scale was set to 1. "
        f"A loss on the {name} is then not standardized. Leave that loss out, or pass "
        f"`{scale}_scale`."
    ]


def force_warnings(fit: ScaleFit) -> list[str]:
    """Return the warnings about the forces."""
    found = scale_warnings("forces", fit.degenerate, "force")
    if fit.largest_share > _LARGE_SHARE:
        found.append(
            f"1 % of the atoms carry {100 * fit.largest_share:.0f} % of the squared "
            "forces: they rule the force scale, and a squared force loss learns little "
            "else. Look at these atoms. A Huber or absolute metric tames them in the "
            "loss; `robust=True` keeps them out of the scale, but a squared loss then "
            "gives them more weight, also against the energies."
        )
    return found
