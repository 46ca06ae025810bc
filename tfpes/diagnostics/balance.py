"""What an energy : forces ratio of 1 : 1 means for each pair of losses."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.evaluation import compositions
from tfpes.layers import PESNormalization


@dataclasses.dataclass(frozen=True)
class Balance:
    """Squared losses of a model that knows only the composition.

    Attributes:
        name: of the pair of losses.
        energy: mean squared energy error, in `energy_unit`.
        forces: mean squared force component, in `force_unit`.
        energy_unit: of `energy`, empty if it has none.
        force_unit: of `forces`, empty if it has none.
    """

    name: str
    energy: float
    forces: float
    energy_unit: str = ""
    force_unit: str = ""

    @property
    def ratio(self) -> float:
        """Energy loss over force loss."""
        return self.energy / self.forces


def balance(
    structures: Structures,
    normalization: PESNormalization,
    energy: NDArray[np.float64],
    forces: NDArray[np.float64],
) -> list[Balance]:
    """Return both terms of the usual losses for ``ΔE = E - Σ n μ`` and ``ΔF = F``.

    Args:
        structures: with labels.
        normalization: adapted on them.
        energy: (S,) E', NaN where there is none.
        forces: (A, 3) F', likewise.

    Returns:
        One entry for each pair of losses; none without labels or without any spread.
    """
    used = np.isfinite(energy)
    vectors = np.isfinite(structures.forces)
    if not used.any() or not structures.forces[vectors].any():
        return []
    counts = compositions(structures)[used]
    error = structures.energy[used] - normalization.energy_baseline(counts).numpy()
    size = counts.sum(axis=1)
    if not error.any():
        return []
    raw = float(np.mean(structures.forces[vectors].astype(np.float64) ** 2))
    unit = "(eV/Å)²"
    return [
        Balance("raw", float(np.mean(error**2)), raw, "eV²", unit),
        Balance("per atom", float(np.mean((error / size) ** 2)), raw, "eV²", unit),
        Balance("per √N", float(np.mean(error**2 / size)), raw, "eV²", unit),
        Balance(
            "standardized",
            float(np.mean(energy[used] ** 2)),
            float(np.nanmean(forces**2)),
        ),
    ]
