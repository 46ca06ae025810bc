"""Errors of groups of structures and atoms: means of what the metrics average."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.evaluation.comparison import Comparison
from tfpes.evaluation.groups import Groups, groups
from tfpes.metrics.forces import force_cosines, force_errors
from tfpes.metrics.structure_errors import energy_errors, virial_errors
from tfpes.metrics.within_thresholds import within_thresholds

# Errors above this part of those without a model.
_NOTHING = 0.9

_Terms = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By field of `Errors`, what it is the mean of: sum and number of labels of each row.

A row is a structure or an atom."""


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of a group; None where there is no label, or no statistics.

    Each is what the metric of that name in :mod:`tfpes.metrics` gives. A prediction
    that is not a number shows as NaN.

    Attributes:
        name: of the group.
        structures: number of structures.
        atoms: number of atoms; of an element, its own.
        energies: number of energies.
        energy_mae: eV/atom.
        energy_rmse: eV/atom.
        total_energy_rmse: of the energies of whole structures, eV.
        standardized_energy_rmse: of E', in units of the spread of the labels.
        standardized_energy_mean: mean of E' predicted less E'.
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
    energies: int
    energy_mae: float | None = None
    energy_rmse: float | None = None
    total_energy_rmse: float | None = None
    standardized_energy_rmse: float | None = None
    standardized_energy_mean: float | None = None
    force_mae: float | None = None
    force_rmse: float | None = None
    force_rms_of_labels: float | None = None
    relative_force_rmse: float | None = None
    standardized_force_rmse: float | None = None
    force_cosine: float | None = None
    max_force_error: float | None = None
    efwt: float | None = None
    virial_mae: float | None = None
    virial_rmse: float | None = None
    standardized_virial_rmse: float | None = None

    @property
    def nothing_learned(self) -> str:
        """One sentence if the errors are nearly those of no model, else nothing.

        Without a model, E' is what the composition leaves, and forces are 0.
        """
        energy, forces = self.standardized_energy_rmse, self.relative_force_rmse
        parts = []
        if energy is not None and energy > _NOTHING:
            parts.append(
                f"energies (E' RMSE {energy:.2f}, where 1 is that of compositions)"
            )
        if forces is not None and forces > _NOTHING:
            parts.append(f"forces (error {forces:.0%} of their RMS, as if all were 0)")
        if not parts:
            return ""
        return (
            f"Little or nothing is learned of {' and of '.join(parts)}: train longer "
            "or on more data, and see what `tfpes diagnose` says of these."
        )


def group_errors(comparison: Comparison) -> dict[str, tuple[Errors, ...]]:
    """Return the errors of all structures, and of the groups of :func:`groups`."""
    c = comparison
    terms = _structure_terms(c), _atom_terms(c)
    found = groups(
        c.composition,
        c.atomic_numbers,
        c.structure_index,
        c.config_type,
        c.isolated,
        c.trained_on,
    )
    return {kind: _errors(group, *terms) for kind, group in found.items()}


def as_json(errors: Errors) -> dict[str, Any]:
    """Return a row as JSON has it: None for what is not a number."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in dataclasses.asdict(errors).items()
    }


def _structure_terms(c: Comparison) -> _Terms:
    pair = c.targets["energy"], c.outputs["energy"]
    error, present = energy_errors(*pair)
    total, _ = energy_errors(*pair, per_atom=False)
    virial, labels = virial_errors(c.targets["virial"], c.outputs["virial"])
    energy_unit, known = c.standardized_errors("energy")
    virial_unit, labels_known = c.standardized_errors("virial")
    return {
        "energy_mae": _sums(np.abs(error), present),
        "energy_rmse": _sums(np.square(error), present),
        "total_energy_rmse": _sums(np.square(total), present),
        "standardized_energy_rmse": _sums(np.square(energy_unit), known),
        "standardized_energy_mean": _sums(energy_unit, known),
        "efwt": _sums(*within_thresholds(c.targets, c.outputs)),
        "virial_mae": _sums(np.abs(virial), labels),
        "virial_rmse": _sums(np.square(virial), labels),
        "standardized_virial_rmse": _sums(np.square(virial_unit), labels_known),
    }


def _atom_terms(c: Comparison) -> _Terms:
    pair = c.targets["forces"], c.outputs["forces"]
    error, present = force_errors(*pair)
    labels, _ = force_errors(pair[0], np.zeros_like(pair[1]))
    unit, known = c.standardized_errors("forces")
    return {
        "force_mae": _sums(np.abs(error), present),
        "force_rmse": _sums(np.square(error), present),
        "force_rms_of_labels": _sums(np.square(labels), present),
        "standardized_force_rmse": _sums(np.square(unit), known),
        "force_cosine": _sums(*force_cosines(*pair)),
    }


def _sums(values: NDArray, present: NDArray) -> tuple[NDArray, NDArray]:
    """Return the sum of each row, and how many labels it has."""
    values, present = np.asarray(values, np.float64), np.asarray(present, np.float64)
    columns = tuple(range(1, values.ndim))
    return values.sum(axis=columns), present.sum(axis=columns)


def _errors(
    groups: Groups, of_structures: _Terms, of_atoms: _Terms
) -> tuple[Errors, ...]:
    columns: dict[str, list] = {
        "name": list(groups.names),
        "structures": [round(n) for n in groups.structures.sum(axis=1)],
        "atoms": [round(n) for n in groups.num_atoms],
        "energies": [
            round(n) for n in groups.structures @ of_structures["energy_mae"][1]
        ],
    }
    for members, terms in (
        (groups.structures, of_structures),
        (groups.atoms, of_atoms),
    ):
        for name, (values, labels) in terms.items():
            sums, counts = members @ values, members @ labels
            means = sums / np.maximum(counts, 1.0)
            roots = np.sqrt(means) if "_rms" in name else means
            known = zip(roots.tolist(), counts, strict=True)
            columns[name] = [value if count else None for value, count in known]
    pairs = zip(columns["force_rmse"], columns["force_rms_of_labels"], strict=True)
    columns["relative_force_rmse"] = [
        error / label if error is not None and label else None for error, label in pairs
    ]
    squares = of_atoms["force_rmse"][0]
    members = np.split(groups.atoms.indices, groups.atoms.indptr[1:-1])
    columns["max_force_error"] = [
        None if error is None else float(np.sqrt(squares[atoms].max()))
        for error, atoms in zip(columns["force_rmse"], members, strict=True)
    ]
    rows = zip(*columns.values(), strict=True)
    return tuple(Errors(**dict(zip(columns, row, strict=True))) for row in rows)
