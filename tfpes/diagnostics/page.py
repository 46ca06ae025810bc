"""A diagnosis as one HTML page that needs nothing else."""

from collections.abc import Callable, Sequence
from typing import Any

from tfpes.diagnostics.diagnosis import Diagnosis
from tfpes.diagnostics.listing import listed_structures
from tfpes.diagnostics.loss_section import loss_section
from tfpes.diagnostics.markup import (
    NUMBER,
    TEXT,
    details,
    figure,
    items,
    number,
    page,
    paragraph,
    percent,
    preformatted,
    table,
)
from tfpes.diagnostics.model_section import model_section

# More rows than this fold away.
_LONG = 25


def to_html(
    diagnosis: Diagnosis,
    title: str = "Diagnosis of a data set",
    place: Callable[[int], str] = str,
) -> str:
    """Return the page: pictures inside, no script, nothing from the network.

    Args:
        diagnosis: to show.
        title: of the page.
        place: from the index of a structure to words that say where it is.
    """
    # matplotlib takes a second to import.
    from tfpes.diagnostics.pictures import draw

    pictures = draw(diagnosis)
    structures = diagnosis.structures
    sections = [
        ("statistics", "Statistics", _statistics(diagnosis)),
        ("normal", "Against the normal law", _normal(diagnosis, pictures)),
        ("size", "Size", _size(diagnosis, pictures)),
        ("elements", "Elements", _elements(diagnosis, pictures)),
        ("losses", "What losses weigh", loss_section(diagnosis, pictures)),
        ("listed", "Structures to look at", listed_structures(diagnosis, place)),
    ]
    kinds = diagnosis.by_config_type
    if len(kinds) > 1:
        parts = [_groups(kinds, "config_type")]
        sections.insert(4, ("kinds", "Kinds of structures", parts))
    if diagnosis.errors is not None:
        parts = model_section(diagnosis, pictures, place)
        sections.append(("model", "Errors of the model", parts))
    sections.append(("advice", "Advice", _advice(diagnosis)))
    subtitle = (
        f"{len(structures)} structures, {len(structures.positions)} atoms, "
        f"{len(structures.elements)} elements. Advice is at the end."
    )
    return page(title, subtitle, sections)


def _statistics(diagnosis: Diagnosis) -> list[str]:
    return [
        paragraph(
            "E' = (E - Σ n μ) / s with s² = Σ n σ² + N² κ², and F' = F / η: in units "
            "of their own spread. Mean square 1 is expected of each."
        ),
        details(
            "Report of the fit", preformatted(str(diagnosis.normalization.report)), True
        ),
    ]


def _normal(diagnosis: Diagnosis, pictures: dict[str, str]) -> list[str]:
    shape = diagnosis.shape
    parts = [
        figure(
            pictures["standardized_energy"],
            f"E' of {shape.energies} structures; kurtosis "
            f"{number(shape.energy_kurtosis)} (3 if normal). Half of the sum of "
            f"E'² is in {shape.half_of_energies} structures. In the right panel, "
            "points on the line are normal; ends that turn away from it are tails.",
        )
    ]
    if "standardized_forces" in pictures:
        parts.append(
            figure(
                pictures["standardized_forces"],
                f"F'; kurtosis {number(shape.force_kurtosis)} (3 if normal). The 1 % "
                f"of the atoms with the largest F' hold {percent(shape.top_share)} of "
                f"the sum of F'²; half of it is in {shape.half_of_forces} structures. "
                f"In {shape.structures_without_force} of {len(diagnosis.structures)} "
                "structures of several atoms all forces are 0.",
            )
        )
    if shape.gap:
        gap = shape.gap
        parts.append(
            paragraph(
                f"No E' lies between {gap.low:.2f} and {gap.high:.2f}: {gap.below} "
                f"structures are below, {gap.above} above."
            )
        )
    return parts


def _size(diagnosis: Diagnosis, pictures: dict[str, str]) -> list[str]:
    return [
        figure(
            pictures["size_law"],
            "Deviation of each energy from what its composition says, against size, "
            "and the spread s of each size law.",
        ),
        _groups(diagnosis.by_size, "atoms"),
    ]


def _groups(rows: Sequence[dict[str, Any]], name: str) -> str:
    columns = [
        (name, TEXT),
        ("structures", NUMBER),
        ("share", NUMBER),
        ("atoms", NUMBER),
        ("share", NUMBER),
        ("mean E'", NUMBER),
        ("RMS E'", NUMBER),
        ("RMS F'", NUMBER),
    ]
    cells = [
        [
            row["name"] or "(none)",
            str(row["structures"]),
            percent(row["structure_share"]),
            str(row["atoms"]),
            percent(row["atom_share"]),
            number(row["energy_mean"], "+.2f"),
            number(row["energy_rms"], ".2f"),
            number(row["force_rms"], ".2f"),
        ]
        for row in rows
    ]
    return _folding(columns, cells)


def _elements(diagnosis: Diagnosis, pictures: dict[str, str]) -> list[str]:
    columns = [
        ("element", TEXT),
        ("structures", NUMBER),
        ("share", NUMBER),
        ("atoms", NUMBER),
        ("share", NUMBER),
        ("μ [eV]", NUMBER),
        ("σ [eV]", NUMBER),
        ("η [eV/Å]", NUMBER),
        ("RMS E'", NUMBER),
        ("RMS F'", NUMBER),
    ]
    cells = [
        [
            row["name"],
            str(row["structures"]),
            percent(row["structure_share"]),
            str(row["atoms"]),
            percent(row["atom_share"]),
            number(row["mean"], ".6g"),
            number(row["deviation"], ".4g"),
            number(row["force_scale"], ".4g"),
            number(row["energy_rms"], ".2f"),
            number(row["force_rms"], ".2f"),
        ]
        for row in diagnosis.by_element
    ]
    return [
        figure(pictures["elements"], "Spread of the energy and force of one atom."),
        _folding(columns, cells),
        paragraph("RMS E' is of the structures that hold the element.", "note"),
    ]


def _folding(columns: list[tuple[str, str]], rows: list[list[str]]) -> str:
    whole = table(columns, rows)
    return whole if len(rows) <= _LONG else details(f"{len(rows)} rows", whole)


def _advice(diagnosis: Diagnosis) -> list[str]:
    parts = [items(diagnosis.advice)]
    warnings = diagnosis.report["warnings"]
    if warnings:
        parts += [paragraph("Warnings of the fit:"), items(warnings)]
    return parts
