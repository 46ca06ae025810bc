"""Errors of a model in units of the spread of the labels."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tfpes.data.structures import Structures
from tfpes.elements import SYMBOLS
from tfpes.evaluation import Evaluation, evaluate
from tfpes.layers import PESNormalization

WORST = 15


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


@dataclasses.dataclass(frozen=True, eq=False)
class ModelErrors:
    """Errors of a model on the diagnosed structures.

    Attributes:
        evaluation: errors overall and by size, element and ``config_type``; the scales
            are those of the diagnosed data, not of the data the model was trained on.
        energy: (S,) standardized errors ``(E_pred - E) / s``, NaN without label.
        forces: (A, 3) ``(F_pred - F) / η``.
        slope: of the squared energy errors against size, or None if all structures have
            one size or there are too few.
        worst_energies: indices of the largest ``|ΔE'|``, largest first.
        worst_forces: structures with the largest RMS of ``ΔF'``, largest first.
        force_rms: that RMS, (S,).
    """

    evaluation: Evaluation
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    slope: Slope | None
    worst_energies: NDArray[np.int64]
    worst_forces: NDArray[np.int64]
    force_rms: NDArray[np.float64]


def model_errors(
    model: Any,
    structures: Structures,
    normalization: PESNormalization,
    batch_size: int = 16,
) -> ModelErrors:
    """Evaluate a model and standardize its errors.

    Energies of isolated atoms are left out, as from the statistics: a cohesive energy
    away from the others, a few of them would rule the errors of all.

    Args:
        model: as for :func:`tfpes.evaluate`.
        structures: with neighbour lists for the cutoff of the model.
        normalization: adapted on these structures.
        batch_size: structures at a time.

    Raises:
        ValueError: for elements that the model does not know.
    """
    energy = np.where(structures.isolated_atoms, np.nan, structures.energy)
    structures = dataclasses.replace(structures, energy=energy)
    evaluation = evaluate(
        model, structures, normalization=normalization, batch_size=batch_size
    )
    found = evaluation.comparison
    counts, numbers = found.composition, structures.atomic_numbers
    scale = normalization.energy_scale(counts).numpy()
    energy = (found.energy[1] - found.energy[0]) / scale
    force_scale = normalization.force_scale.numpy()[numbers]
    difference = (found.forces[1] - found.forces[0]).astype(np.float64)
    # Without force labels there is no scale, and nothing to divide.
    forces = difference / np.where(force_scale > 0, force_scale, np.nan)[:, None]
    force_rms = _force_rms(structures, forces)
    return ModelErrors(
        evaluation=evaluation,
        energy=energy,
        forces=forces,
        slope=size_slope(energy, structures.num_atoms),
        worst_energies=_largest(np.abs(energy)),
        worst_forces=_largest(force_rms),
        force_rms=force_rms,
    )


def size_slope(error: NDArray[np.float64], size: NDArray[np.int64]) -> Slope | None:
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


def worst_rows(errors: ModelErrors, structures: Structures) -> list[dict[str, Any]]:
    """Return the worst structures, by energies and then by forces, as rows to show."""
    found = errors.evaluation.comparison
    difference = found.energy[1] - found.energy[0]
    rows = []
    for kind, picked in (
        ("energy", errors.worst_energies),
        ("forces", errors.worst_forces),
    ):
        rows += [
            {
                "kind": kind,
                "structure": int(s),
                "composition": formula(structures, int(s)),
                "config_type": str(structures.config_type[s]),
                "energy_error": float(difference[s] / structures.num_atoms[s]),
                "standardized_energy": float(errors.energy[s]),
                "standardized_forces": float(errors.force_rms[s]),
            }
            for s in picked
        ]
    return rows


def formula(structures: Structures, structure: int) -> str:
    """Return the composition of a structure, as ``Cu3 Au``."""
    first, last = structures.atom_offsets[structure : structure + 2]
    numbers, counts = np.unique(
        structures.atomic_numbers[first:last], return_counts=True
    )
    return " ".join(
        f"{SYMBOLS[z]}{n}" if n > 1 else SYMBOLS[z]
        for z, n in zip(numbers, counts, strict=True)
    )


def _force_rms(structures: Structures, forces: NDArray) -> NDArray[np.float64]:
    present = np.isfinite(forces)
    squared = np.where(present, forces, 0.0) ** 2
    owner, number = structures.structure_index, len(structures)
    labels = np.bincount(owner, present.sum(axis=1), number)
    sums = np.bincount(owner, squared.sum(axis=1), number)
    return np.sqrt(np.divide(sums, labels, np.full(number, np.nan), where=labels > 0))


def _largest(values: NDArray) -> NDArray[np.int64]:
    ranked = np.argsort(-np.where(np.isfinite(values), values, -1.0), kind="stable")
    return ranked[: min(WORST, np.count_nonzero(np.isfinite(values)))]
