"""A diagnosis as one HTML page that needs nothing else."""

from collections.abc import Callable

from tfpes.diagnostics import sections
from tfpes.diagnostics.findings import Diagnosis
from tfpes.diagnostics.listing import listed
from tfpes.diagnostics.markup import page


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
    parts = [
        ("advice", "Advice", sections.advice(diagnosis)),
        ("statistics", "Statistics", sections.statistics(diagnosis)),
        ("normal", "Against the normal law", sections.normal(diagnosis, pictures)),
        ("size", "Size", sections.size(diagnosis, pictures)),
        ("elements", "Elements", sections.elements(diagnosis, pictures)),
        ("kinds", "Kinds of structures", sections.kinds(diagnosis)),
        ("losses", "What losses weigh", sections.losses(diagnosis, pictures)),
        ("listed", "Structures to look at", listed(diagnosis, place)),
        ("model", "Errors of the model", sections.model(diagnosis, pictures, place)),
    ]
    subtitle = (
        f"{len(structures)} structures, {len(structures.positions)} atoms, "
        f"{len(structures.elements)} elements."
    )
    return page(title, subtitle, [part for part in parts if part[2]])
