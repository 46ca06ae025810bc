"""Errors of groups of structures and atoms, from sums that are gathered once."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import SYMBOLS
from tfpes.evaluation.comparison import Comparison
from tfpes.metrics.forces import COSINE_THRESHOLD
from tfpes.metrics.within_thresholds import ENERGY_THRESHOLD, FORCE_THRESHOLD

Sums = dict[str, NDArray[np.float64]]
"""By name, one sum for each atom, structure or group; ``max_force`` is a maximum."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of a group; None where there is no label, or no statistics.

    Each is what the metric of that name in :mod:`tfpes.metrics` gives. A prediction
    that is not a number shows as NaN.

    Attributes:
        name: of the group.
        structures: number of structures.
        atoms: number of atoms; of an element, its own.
        energy_mae: eV/atom.
        energy_rmse: eV/atom.
        total_energy_rmse: of the energies of whole structures, eV.
        standardized_energy_rmse: of E', in units of the spread of the labels.
        force_mae: over components, eV/Å.
        force_rmse: over components, eV/Å.
        force_rms_of_labels: eV/Å.
        relative_force_rmse: ``force_rmse / force_rms_of_labels``.
        standardized_force_rmse: of F'.
        force_cosine: mean cosine of the angle between predicted and true forces.
        max_force_error: largest norm of a force error, eV/Å.
        efwt: fraction of structures with energy and forces within thresholds.
        virial_mae: over components, eV/atom.
        virial_rmse: over components, eV/atom.
        standardized_virial_rmse: of W'.
    """

    name: str
    structures: int
    atoms: int
    energy_mae: float | None
    energy_rmse: float | None
    total_energy_rmse: float | None
    standardized_energy_rmse: float | None
    force_mae: float | None
    force_rmse: float | None
    force_rms_of_labels: float | None
    relative_force_rmse: float | None
    standardized_force_rmse: float | None
    force_cosine: float | None
    max_force_error: float | None
    efwt: float | None
    virial_mae: float | None
    virial_rmse: float | None
    standardized_virial_rmse: float | None


def group_errors(comparison: Comparison) -> dict[str, tuple[Errors, ...]]:
    """Return the errors of all structures, by size, element and configuration type."""
    counts, size = comparison.composition, comparison.num_atoms
    of_atoms = _atom_sums(comparison)
    of_structures = _structure_sums(comparison)
    per_structure = of_structures | _gather(
        of_atoms, comparison.structure_index, len(size)
    )
    per_structure |= _within_thresholds(comparison, of_atoms)

    def disjoint(names: Sequence[str], group: NDArray) -> tuple[Errors, ...]:
        return _rows(names, _gather(per_structure, group, len(names)))

    bins = size_bins(size)
    groups = {
        "overall": disjoint(["all"], np.zeros(len(size), int)),
        "by_size": disjoint(
            [str(low) if low == high else f"{low}-{high}" for low, high in bins],
            np.searchsorted([high for _, high in bins], size),
        ),
    }
    # A structure belongs to each of its elements, an atom to its own.
    elements = np.flatnonzero(counts.any(axis=0))
    member, element = np.nonzero(counts[:, elements])
    shared = {name: value[member] for name, value in per_structure.items()}
    shared["atoms"] = counts[:, elements][member, element]
    own = _gather(
        of_atoms, np.searchsorted(elements, comparison.atomic_numbers), len(elements)
    )
    sums = _gather(shared, element, len(elements)) | own
    groups["by_element"] = _rows([SYMBOLS[z] for z in elements], sums)
    kinds = comparison.config_type
    groups["by_config_type"] = ()
    if kinds is not None and (kinds != "").any():
        found, group = np.unique(kinds, return_inverse=True)
        names = [str(name) or "(none)" for name in found]
        groups["by_config_type"] = disjoint(names, group.reshape(-1))
    return groups


def size_bins(sizes: NDArray) -> list[tuple[int, int]]:
    """Return the occupied bins of sizes: 1, 2-4, 5-16, 17-64, 65-256, ..."""
    bins, low, high = [], 1, 1
    while low <= sizes.max():
        if ((sizes >= low) & (sizes <= high)).any():
            bins.append((low, high))
        low, high = high + 1, 4 * high
    return bins


def _difference(pair: tuple[NDArray, NDArray]) -> tuple[NDArray, NDArray]:
    """Return errors, 0 where there is no label, and where there is one."""
    true, pred = pair
    present = np.isfinite(true)
    return np.where(present, np.subtract(pred, true, dtype=np.float64), 0.0), present


def _structure_sums(c: Comparison) -> Sums:
    size = c.num_atoms
    error, present = _difference(c.energy)
    sums = {
        "structures": np.ones(len(size)),
        "atoms": size,
        "energies": present * 1.0,
        "energy_abs": np.abs(error / size),
        "energy_square": (error / size) ** 2,
        "total_square": error**2,
    }
    if c.energy_scale is not None:
        sums["energy_unit_square"] = (error / c.energy_scale) ** 2
    error, present = (part.reshape(-1, 9) for part in _difference(c.virial))
    per_atom = error / size[:, None]
    sums["virials"] = present.sum(axis=1) * 1.0
    sums["virial_abs"] = np.abs(per_atom).sum(axis=1)
    sums["virial_square"] = np.sum(per_atom**2, axis=1)
    if c.virial_scale is not None:
        unit = error / c.virial_scale[:, None]
        sums["virial_unit_square"] = np.sum(unit**2, axis=1)
    return sums


def _atom_sums(c: Comparison) -> Sums:
    error, present = _difference(c.forces)
    true, pred = (np.float64(part) for part in c.forces)
    square = np.sum(error**2, axis=1)
    norms = [np.sqrt(np.sum(part**2, axis=1)) for part in (true, pred)]
    directed = (norms[0] > COSINE_THRESHOLD) & ~(norms[1] <= COSINE_THRESHOLD)
    product = np.where(directed, norms[0] * norms[1], 1.0)
    cosine = np.sum(true * pred, axis=1) / product
    sums = {
        "forces": present.sum(axis=1) * 1.0,
        "force_abs": np.abs(error).sum(axis=1),
        "force_square": square,
        "label_square": np.sum(np.where(present, true, 0.0) ** 2, axis=1),
        "cosines": directed * 1.0,
        "cosine": np.where(directed, cosine, 0.0),
        "max_force": np.sqrt(square),
        "wrong": (~(np.abs(error) < FORCE_THRESHOLD)).any(axis=1) * 1.0,
    }
    if c.force_scale is not None:
        sums["force_unit_square"] = square / c.force_scale**2
    return sums


def _within_thresholds(c: Comparison, of_atoms: Sums) -> Sums:
    """Return which structures count for EFwT, and which of them are right."""
    flags = {name: of_atoms[name] for name in ("wrong", "forces")}
    found = _gather(flags, c.structure_index, len(c.composition))
    error, present = _difference(c.energy)
    counted = present & (found["forces"] > 0)
    right = counted & (np.abs(error) < ENERGY_THRESHOLD) & (found["wrong"] == 0)
    return {"efwts": counted * 1.0, "efwt": right * 1.0}


def _gather(sums: Sums, group: NDArray, count: int) -> Sums:
    """Add up what belongs to each group."""
    found = {
        name: np.bincount(group, values, count).astype(np.float64)
        for name, values in sums.items()
    }
    if "max_force" in sums:
        found["max_force"] = np.zeros(count)
        # NaN is meant to be seen in the result, not in a warning.
        with np.errstate(invalid="ignore"):
            np.maximum.at(found["max_force"], group, sums["max_force"])
    return found


def _rows(names: Sequence[str], sums: Sums) -> tuple[Errors, ...]:
    return tuple(
        _row(name, {key: float(values[i]) for key, values in sums.items()})
        for i, name in enumerate(names)
    )


def _row(name: str, sums: dict[str, float]) -> Errors:
    def mean(total: str, count: str) -> float | None:
        if total not in sums or not sums[count]:
            return None
        return sums[total] / sums[count]

    def root(total: str, count: str) -> float | None:
        square = mean(total, count)
        return None if square is None else float(np.sqrt(square))

    rmse, spread = root("force_square", "forces"), root("label_square", "forces")
    return Errors(
        name=name,
        structures=round(sums["structures"]),
        atoms=round(sums["atoms"]),
        energy_mae=mean("energy_abs", "energies"),
        energy_rmse=root("energy_square", "energies"),
        total_energy_rmse=root("total_square", "energies"),
        standardized_energy_rmse=root("energy_unit_square", "energies"),
        force_mae=mean("force_abs", "forces"),
        force_rmse=rmse,
        force_rms_of_labels=spread,
        relative_force_rmse=rmse / spread if rmse is not None and spread else None,
        standardized_force_rmse=root("force_unit_square", "forces"),
        force_cosine=mean("cosine", "cosines"),
        max_force_error=sums["max_force"] if sums["forces"] else None,
        efwt=mean("efwt", "efwts"),
        virial_mae=mean("virial_abs", "virials"),
        virial_rmse=root("virial_square", "virials"),
        standardized_virial_rmse=root("virial_unit_square", "virials"),
    )


def as_json(errors: Errors) -> dict[str, Any]:
    """Return a row as JSON has it: None for what is not a number."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in dataclasses.asdict(errors).items()
    }
