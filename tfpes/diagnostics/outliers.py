"""Structures whose labels are unlike those of the others, and why."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tfpes.data.structures import Structures
from tfpes.elements import SYMBOLS

LEVEL = 0.01
"""Chance that normal labels, all of them together, give one false outlier."""
# Part of the energies that tells their spread; the others may be anything.
_BULK = 0.9
# That quantile of the absolute value of a standard normal variable.
_WIDTH = float(stats.norm.ppf((1 + _BULK) / 2))
# Degrees of freedom that one energy adds to a spread from that quantile, 0.64.
_EFFICIENCY = 2 * (_WIDTH * stats.norm.pdf(_WIDTH)) ** 2 / (_BULK * (1 - _BULK))
# Net force that is noted, relative to the root of the sum of squared forces.
_NET_FORCE = 0.1
# Forces below this, eV/Å, are rounding: their sum says nothing.
_NO_FORCE = 1e-3

KINDS = {
    "two energies": "Same geometry, two energies",
    "energy": "Energies beyond what a normal law allows",
    "force": "Forces beyond what a normal law allows",
    "contact": "Atoms too close",
    "duplicate": "Duplicates",
    "net force": "Forces that do not sum to zero",
    "isolated atom": "Isolated atoms",
    "no energy": "Without energy",
    "no forces": "Without forces, or with forces on some atoms only",
    "no virial": "Without stress, though others have it",
}
"""What structures are listed for, in the order of a report."""


@dataclasses.dataclass(frozen=True)
class Outlier:
    """A structure to look at.

    Attributes:
        structure: its index.
        kind: one of `KINDS`.
        value: what structures of this kind are ranked by, largest first.
        why: the reason, with its numbers.
    """

    structure: int
    kind: str
    value: float
    why: str


def listed(
    kind: str,
    values: NDArray,
    chosen: ArrayLike,
    why: Callable[[int], str],
) -> list[Outlier]:
    """List the chosen structures, largest value first.

    Args:
        kind: one of `KINDS`.
        values: to rank by, (S,).
        chosen: (S,).
        why: from the index of a structure to the reason.
    """
    picked = np.flatnonzero(chosen)
    ranked = picked[np.argsort(-values[picked], kind="stable")]
    return [Outlier(int(s), kind, float(values[s]), why(s)) for s in ranked]


def _energy_limit(number: int) -> float:
    """Return how many robust standard deviations none of `number` energies exceeds.

    At `LEVEL`, if they are normal: two-sided, Bonferroni, Student's t because the
    deviation is estimated.
    """
    freedom = _EFFICIENCY * max(number, 3)
    return float(stats.t.isf(LEVEL / 2 / max(number, 1), freedom))


def _force_limit(number: int) -> float:
    """Return the |F'| that none of `number` normal vectors exceeds, at `LEVEL`."""
    return float(np.sqrt(stats.chi2.isf(LEVEL / max(number, 1), 3)))


def unlikely_energies(standardized: NDArray[np.float64]) -> list[Outlier]:
    """Find energies that are extreme for their number.

    Distances are from the median, in units of the 90 % quantile of ``|E' - median|``
    over 1.645. A few gross outliers would inflate a standard deviation and hide behind
    it; a median deviation would take the tail of most real sets for outliers.

    Args:
        standardized: E' (S,), NaN where there is no energy.
    """
    present = standardized[np.isfinite(standardized)]
    if not present.size:
        return []
    middle = np.median(present)
    spread = np.quantile(np.abs(present - middle), _BULK) / _WIDTH
    if spread == 0:
        return []
    limit = _energy_limit(present.size)
    distance = np.abs(standardized - middle) / spread
    share = standardized**2 / np.sum(present**2)
    return listed(
        "energy",
        distance,
        distance > limit,
        lambda s: (
            f"E' = {standardized[s]:+.1f}, {distance[s]:.1f} robust standard "
            f"deviations ({spread:.2f}) from the median {middle:+.2f}, limit "
            f"{limit:.2f}; {share[s]:.1%} of the sum of E'²"
        ),
    )


def unlikely_forces(
    structures: Structures, standardized: NDArray[np.floating]
) -> list[Outlier]:
    """Find structures with forces that are extreme for their number (Bonferroni).

    Args:
        structures: with forces.
        standardized: F' (A, 3), NaN where there is none.
    """
    squared = np.einsum("ij,ij->i", standardized, standardized, dtype=np.float64)
    present = np.isfinite(squared)
    if not present.any():
        return []
    limit = _force_limit(int(present.sum()))
    squared = np.where(present, squared, 0.0)
    owner = structures.structure_index
    sums = np.bincount(owner, squared, len(structures))
    # The last of equal owners in this order is the one with the largest force.
    order = np.lexsort((squared, owner))
    worst = order[structures.atom_offsets[1:] - 1]
    largest = np.sqrt(squared[worst])
    beyond = np.bincount(owner, squared > limit**2, len(structures)).astype(int)

    def why(s: int) -> str:
        atom = worst[s]
        return (
            f"atom {atom - structures.atom_offsets[s]} "
            f"({SYMBOLS[structures.atomic_numbers[atom]]}): |F| = "
            f"{np.linalg.norm(structures.forces[atom]):.3g} eV/Å, |F'| = "
            f"{largest[s]:.1f} (limit {limit:.2f}); {beyond[s]} of "
            f"{structures.num_atoms[s]} atoms beyond; {sums[s] / sums.sum():.1%} of "
            "the sum of F'²"
        )

    return listed("force", largest, largest > limit, why)


def net_forces(structures: Structures) -> list[Outlier]:
    """Find forces that do not sum to zero: constrained, cropped, or in a field."""
    owner = structures.structure_index
    columns = [np.bincount(owner, f, len(structures)) for f in structures.forces.T]
    net = np.linalg.norm(columns, axis=0)
    root = np.sqrt(
        np.bincount(owner, (structures.forces**2.0).sum(axis=1), len(structures))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = net / root
    return listed(
        "net force",
        ratio,
        # Missing forces give NaN, and are no net force.
        (ratio > _NET_FORCE) & (root > _NO_FORCE),
        lambda s: (
            f"|Σ F| = {net[s]:.3g} eV/Å, {ratio[s]:.0%} of √Σ|F|²; without "
            "external field or fixed atoms it is 0"
        ),
    )


def missing_labels(structures: Structures) -> list[Outlier]:
    """List structures that lack labels which others have."""
    atoms = structures.num_atoms
    absent = np.isnan(structures.forces).any(axis=1)
    without = np.bincount(structures.structure_index, absent, len(structures))
    none = np.isnan(structures.energy)
    found = listed("no energy", 0.0 * none, none, lambda s: "no energy")
    if (without < atoms).any():
        found += listed(
            "no forces",
            without / atoms,
            without > 0,
            lambda s: f"{without[s]:.0f} of {atoms[s]} atoms without forces",
        )
    no_virial = np.isnan(structures.virial).any(axis=(1, 2))
    if not no_virial.all():
        periodic = np.linalg.norm(structures.cell, axis=2).min(axis=1) > 0
        text = ("not periodic in three directions", "periodic, but no stress")
        found += listed(
            "no virial", 1.0 * periodic, no_virial, lambda s: text[int(periodic[s])]
        )
    return found
