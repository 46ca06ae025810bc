"""How far labels are from normal: tails, zeros, and energies in two lots."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures

TOP = 0.01
"""Share of the atoms whose part of the squared forces is given."""
ZERO = 1e-4
"""Forces below this, eV/Å, are 0."""
# A gap this wide in E', with this many structures on either side, is no accident of
# sampling from one normal law.
_GAP, _SHARE, _NUMBER = 1.0, 0.02, 5


@dataclasses.dataclass(frozen=True)
class Gap:
    """An interval of E' without structures; ``above`` of them lie beyond it."""

    low: float
    high: float
    below: int
    above: int


@dataclasses.dataclass(frozen=True)
class Shape:
    """Shape of the distributions of E' and F'.

    Attributes:
        energies: number of energies.
        energy_kurtosis: 3 if normal, NaN for fewer than four energies.
        force_kurtosis: of the components, 3 if normal, NaN without forces.
        top_share: part of the sum of F'² that the 1 % of atoms with the largest hold.
        half_of_energies: fewest structures that hold half of the sum of E'².
        half_of_forces: fewest structures that hold half of the sum of F'².
        structures_without_force: structures of several atoms whose forces are all 0.
        gap: the widest gap between two lots of energies, if there is one.
    """

    energies: int
    energy_kurtosis: float
    force_kurtosis: float
    top_share: float
    half_of_energies: int
    half_of_forces: int
    structures_without_force: int
    gap: Gap | None


def shape(structures: Structures, energy: NDArray, forces: NDArray) -> Shape:
    """Describe standardized energies (S,) and forces (A, 3); NaN is no label."""
    energy = energy[np.isfinite(energy)]
    of_atoms = np.where(np.isfinite(forces), forces, 0.0) ** 2
    of_structures = np.bincount(structures.structure_index, of_atoms.sum(axis=1))
    squared = np.sort((forces[np.isfinite(forces).all(axis=1)] ** 2).sum(axis=1))
    top = squared[squared.size - int(np.ceil(TOP * squared.size)) :]
    total = squared.sum()
    largest = np.zeros(len(structures))
    np.maximum.at(
        largest, structures.structure_index, np.abs(structures.forces).max(axis=1)
    )
    still = (largest < ZERO) & (structures.num_atoms > 1)
    return Shape(
        energies=energy.size,
        energy_kurtosis=_kurtosis(energy - energy.mean()) if energy.size else np.nan,
        force_kurtosis=_kurtosis(forces[np.isfinite(forces)]),
        top_share=float(top.sum() / total) if total > 0 else np.nan,
        half_of_energies=_half(energy**2),
        half_of_forces=_half(of_structures),
        structures_without_force=int(np.count_nonzero(still)),
        gap=find_gap(energy),
    )


def find_gap(energy: NDArray[np.float64]) -> Gap | None:
    """Return the widest gap of E' that leaves a fair part of them on either side."""
    ordered = np.sort(energy)
    least = max(_NUMBER, int(np.ceil(_SHARE * ordered.size)))
    if ordered.size < 2 * least:
        return None
    inner = np.diff(ordered)[least - 1 : ordered.size - least]
    place = int(np.argmax(inner)) + least
    low, high = float(ordered[place - 1]), float(ordered[place])
    if high - low < _GAP:
        return None
    return Gap(low, high, place, ordered.size - place)


def _half(parts: NDArray) -> int:
    """Return how few of the parts add up to half of their sum."""
    sums = np.cumsum(np.sort(parts)[::-1])
    return int(np.searchsorted(sums, sums[-1] / 2) + 1) if sums.size else 0


def _kurtosis(values: NDArray) -> float:
    """Fourth moment about 0 over the square of the second."""
    if values.size < 4 or not values.any():
        return float("nan")
    squared = values**2
    return float(np.mean(squared**2) / np.mean(squared) ** 2)
