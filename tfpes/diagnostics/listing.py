"""The parts of the page that list structures."""

from collections.abc import Callable

import numpy as np

from tfpes.data.structures import Structures
from tfpes.diagnostics.findings import Diagnosis, ModelErrors
from tfpes.diagnostics.markup import (
    LONG,
    NUMBER,
    TEXT,
    details,
    heading,
    number,
    paragraph,
    table,
)
from tfpes.diagnostics.outliers import KINDS, LEVEL
from tfpes.elements import SYMBOLS

# Structures of a kind that are listed in full, and by index.
_SHOWN, _LISTED = 12, 1000
_WHO = (("index", NUMBER), ("where", TEXT), ("atoms", TEXT), ("config_type", TEXT))


def listed(diagnosis: Diagnosis, place: Callable[[int], str]) -> list[str]:
    """Return a table for each kind of outlier, the first ones in full."""
    parts = [
        paragraph(
            f"Limits are such that normal labels give one false alarm of a kind in "
            f"{1 / LEVEL:.0f} data sets. Real labels have tails: a structure listed "
            "here is one to look at, not one to delete."
        )
    ]
    structures, total = diagnosis.structures, len(diagnosis.structures)
    for kind, title in KINDS.items():
        found = [outlier for outlier in diagnosis.outliers if outlier.kind == kind]
        if not found:
            continue
        rows = [
            [*_who(structures, outlier.structure, place), outlier.why]
            for outlier in found[:_SHOWN]
        ]
        parts += [
            heading(f"{title}: {len(found)} of {total}, {len(found) / total:.1%}"),
            table([*_WHO, ("why", LONG)], rows),
        ]
        rest = [str(outlier.structure) for outlier in found[_SHOWN:]]
        if rest:
            end = ", …" if len(rest) > _LISTED else ""
            indices = paragraph(", ".join(rest[:_LISTED]) + end)
            parts.append(details(f"{len(rest)} more, by index", indices))
    return parts if len(parts) > 1 else [*parts, paragraph("None.")]


def worst(
    errors: ModelErrors, structures: Structures, place: Callable[[int], str]
) -> list[str]:
    """Return tables of the structures with the largest errors of a model."""
    columns = [
        *_WHO,
        ("ΔE / N [meV]", NUMBER),
        ("ΔE'", NUMBER),
        ("RMS ΔF'", NUMBER),
    ]
    true, pred = errors.evaluation.comparison.energy
    per_atom = 1e3 * (pred - true) / structures.num_atoms
    parts = []
    for title, picked in (
        ("Worst energies", errors.worst_energies),
        ("Worst forces", errors.worst_forces),
    ):
        rows = [
            [
                *_who(structures, int(s), place),
                number(per_atom[s], "+.1f"),
                number(errors.energy[s], "+.2f"),
                number(errors.force_rms[s], ".2f"),
            ]
            for s in picked
        ]
        if rows:
            parts += [heading(title), table(columns, rows)]
    return parts


def _who(
    structures: Structures, structure: int, place: Callable[[int], str]
) -> list[str]:
    """Return index, place, composition as ``Cu3 Au`` and ``config_type``."""
    first, last = structures.atom_offsets[structure : structure + 2]
    numbers, counts = np.unique(
        structures.atomic_numbers[first:last], return_counts=True
    )
    composition = " ".join(
        f"{SYMBOLS[z]}{n}" if n > 1 else SYMBOLS[z]
        for z, n in zip(numbers, counts, strict=True)
    )
    kind = str(structures.config_type[structure])
    return [str(structure), place(structure), composition, kind]
