"""How far labels are from normal, and how errors depend on size."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tfpes.data.structures import Structures

# Share of the atoms whose part of the squared forces is given.
_TOP = 0.01
# Forces below this, eV/Å, are 0.
_ZERO = 1e-4
# A gap this wide in E', with this many structures on either side, is no accident of
# sampling from one normal law.
_GAP, _SHARE, _NUMBER = 1.0, 0.02, 5


@dataclasses.dataclass(frozen=True)
class _Gap:
    """An interval of E' without structures; ``above`` of them lie beyond it."""

    low: float
    high: float
    below: int
    above: int


@dataclasses.dataclass(frozen=True)
class _Tail:
    """``P(|F'| > x) ~ x^-exponent`` for the largest; at most `high` at 97.5 %."""

    exponent: float
    high: float

    def __str__(self) -> str:
        """Say so."""
        return (
            f"Exponent of the tail of |F'|: {self.exponent:.2f}, at most "
            f"{self.high:.2f} (a mean of F'⁴ exists above 4). "
        )


@dataclasses.dataclass(frozen=True)
class Shape:
    """Shape of the distributions of E' and F'.

    Attributes:
        energies: number of energies.
        energy_kurtosis: 3 if normal, NaN for fewer than four energies.
        force_kurtosis: of the components, 3 if normal, NaN without forces.
        force_tail: of |F'|, if there are enough.
        top_share: part of the sum of F'² that the 1 % of atoms with the largest hold.
        half_of_energies: fewest structures that hold half of the sum of E'².
        half_of_forces: fewest structures that hold half of the sum of F'².
        structures_without_force: structures of several atoms whose forces are all 0.
        gap: the widest gap between two lots of energies, if there is one.
    """

    energies: int
    energy_kurtosis: float
    force_kurtosis: float
    force_tail: _Tail | None
    top_share: float
    half_of_energies: int
    half_of_forces: int
    structures_without_force: int
    gap: _Gap | None


@dataclasses.dataclass(frozen=True)
class Slope:
    """``d ln(ΔE'²) / d ln N`` by least squares, with its 95 % confidence interval.

    0 says that standardized errors do not depend on size, 1 that they grow with √N
    beyond the spread of the labels.
    """

    slope: float
    low: float
    high: float
    structures: int


def shape(structures: Structures, energy: NDArray, forces: NDArray) -> Shape:
    """Describe standardized energies (S,) and forces (A, 3); NaN is no label."""
    energy = energy[np.isfinite(energy)]
    of_atoms = np.where(np.isfinite(forces), forces, 0.0) ** 2
    of_structures = np.bincount(structures.structure_index, of_atoms.sum(axis=1))
    squared = np.sort((forces[np.isfinite(forces).all(axis=1)] ** 2).sum(axis=1))
    top = squared[squared.size - int(np.ceil(_TOP * squared.size)) :]
    total = squared.sum()
    largest = np.zeros(len(structures))
    np.maximum.at(
        largest, structures.structure_index, np.abs(structures.forces).max(axis=1)
    )
    still = (largest < _ZERO) & (structures.num_atoms > 1)
    return Shape(
        energies=energy.size,
        energy_kurtosis=_kurtosis(energy - energy.mean()) if energy.size else np.nan,
        force_kurtosis=_kurtosis(forces[np.isfinite(forces)]),
        force_tail=_fit_tail(np.sqrt(squared), top.size),
        top_share=float(top.sum() / total) if total > 0 else np.nan,
        half_of_energies=_half(energy**2),
        half_of_forces=_half(of_structures),
        structures_without_force=int(np.count_nonzero(still)),
        gap=_find_gap(energy),
    )


def _fit_tail(ordered: NDArray[np.float64], number: int) -> _Tail | None:
    """Fit a power law to the largest of ordered values, by maximum likelihood.

    The logarithms of what exceeds a threshold are exponential, so that the exponent is
    over its estimate as a χ² variable is over its degrees of freedom.

    Reference:
        Hill, Ann. Stat. 3, 1163 (1975).
    """
    if not 1 < number < ordered.size or not ordered[-number - 1] > 0:
        return None
    logarithms = np.log(ordered[-number:] / ordered[-number - 1])
    if not logarithms.any():
        return None
    exponent = float(1 / logarithms.mean())
    freedom = 2 * number
    return _Tail(exponent, exponent * float(stats.chi2.ppf(0.975, freedom)) / freedom)


def _find_gap(energy: NDArray[np.float64]) -> _Gap | None:
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
    return _Gap(low, high, place, ordered.size - place)


def size_slope(error: NDArray[np.float64], size: NDArray) -> Slope | None:
    """Fit ``ln error² = a + slope ln N``, Student's t for the interval.

    Args:
        error: (S,), NaN or 0 where there is nothing to take the logarithm of.
        size: atoms, (S,).
    """
    used = np.isfinite(error) & (error != 0)
    x, y = np.log(size[used]), 2 * np.log(np.abs(error[used]))
    if len(x) < 3 or x.min() == x.max():
        return None
    fit = stats.linregress(x, y)
    margin = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    slope = float(fit.slope)
    return Slope(slope, slope - margin, slope + margin, len(x))


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
