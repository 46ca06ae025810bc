"""Errors of a run, how they depend on size, and who makes the gradient."""

import numpy as np
from scipy import stats

from tfpes.elements import SYMBOLS
from tfpes.evaluation import size_bins
from tfpes.evaluation.errors import group_errors

KEPT = (
    "structures",
    "energy_mae",
    "energy_rmse",
    "total_energy_rmse",
    "standardized_energy_rmse",
    "force_rmse",
    "standardized_force_rmse",
)
"""Errors that are stored; eV/atom, eV, eV/Å, and E' by the auto law."""


def rounded(value, digits=4):
    """Return numbers with so many digits, in whatever holds them."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.{digits}g}") if np.isfinite(value) else None
    return value


def errors(comparison, normalization):
    """Return errors of all, by size and by element, as columns."""
    groups = group_errors(comparison.with_scales(normalization))
    return {
        kind: {
            "name": [row.name for row in rows],
            **{key: [getattr(row, key) for row in rows] for key in KEPT},
        }
        for kind, rows in groups.items()
        if kind in ("overall", "by_size", "by_element")
    }


def combined(comparison, normalization):
    """Return one error without unit.

        √(RMSE(E / N) / SD(E / N) · RMSE(F) / RMS(F))

    with the spread of the labels about the baseline; 1 is a model that knows only the
    composition.
    """
    c, size = comparison.with_scales(normalization), comparison.num_atoms
    spread = _rms((c.energy[0] - c.energy_baseline) / size)
    energy = _rms((c.energy[0] - c.energy[1]) / size) / spread
    return np.sqrt(energy * _rms(c.forces[0] - c.forces[1]) / _rms(c.forces[0]))


def combined_total(comparison, normalization):
    """Return the same with E' in place of E / N: what the size weighs is another."""
    c = comparison.with_scales(normalization)
    spread = _rms(normalization.standardize_energy(c.energy[0], c.composition))
    energy = _rms(c.standardized_errors("energy")[0]) / spread
    return np.sqrt(energy * _rms(c.forces[0] - c.forces[1]) / _rms(c.forces[0]))


def size_slope(comparison, normalization):
    """Fit ln (ΔE / s)² = a + b ln N to the structures.

    Returns:
        b, and the half-width of its 95 % confidence interval. 0: the errors grow with
        N as s does.
    """
    c = comparison.with_scales(normalization)
    error = c.standardized_errors("energy")[0]
    line = stats.linregress(np.log(c.num_atoms), np.log(np.maximum(error**2, 1e-30)))
    return line.slope, stats.t.ppf(0.975, len(error) - 2) * line.stderr


def gradient_shares(slopes, comparison, loss):
    """Return the share of each size bin and element in the gradient of the energies.

    With the error ΔE_s, the scale s and the slope dE_s/dθ of each structure, a part of
    the loss has the gradient g = Σ_s p_s ΔE_s dE_s/dθ / s²; p is 1 for structures of a
    size bin, 0 for others, and the fraction of atoms for an element. The share is ‖g‖
    over the sum of ‖g‖ of all bins, or elements.

    Args:
        slopes: (S, parameters).
        comparison: of the same structures.
        loss: whose scale s is used.
    """
    c = comparison
    counts, size = c.composition, c.num_atoms
    scale = loss.constant + counts @ loss.variance + size**2 * loss.collective
    each = ((c.energy[1] - c.energy[0]) / scale)[:, None] * slopes
    bins, elements = size_bins(size), np.flatnonzero(counts.any(axis=0))
    parts = {
        "by_size": (
            [str(a) if a == b else f"{a}-{b}" for a, b in bins],
            np.array([(size >= a) & (size <= b) for a, b in bins], float),
        ),
        "by_element": (
            [SYMBOLS[z] for z in elements],
            (counts[:, elements] / size[:, None]).T,
        ),
    }
    shares = {}
    for kind, (names, weights) in parts.items():
        norms = np.linalg.norm(weights @ each, axis=1)
        shares[kind] = {
            "name": names,
            "structures": weights.sum(axis=1) / len(size),
            "share": norms / norms.sum(),
        }
    return shares


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
