"""The part of the page that lists structures."""

from collections.abc import Callable

from tfpes.diagnostics.diagnosis import Diagnosis
from tfpes.diagnostics.markup import LONG, NUMBER, TEXT, details, heading, table
from tfpes.diagnostics.markup import paragraph as text
from tfpes.diagnostics.model_errors import formula
from tfpes.diagnostics.outliers import KINDS, LEVEL

_SHOWN = 12
# The rest by index only.
_LISTED = 1000


def listed_structures(
    diagnosis: Diagnosis, place: Callable[[int], str] = str
) -> list[str]:
    """Return a table for each kind of outlier, the first ones in full.

    Args:
        diagnosis: with outliers.
        place: from the index of a structure to words that say where it is.
    """
    parts = [
        text(
            f"Limits are such that normal labels give one false alarm of a kind in "
            f"{1 / LEVEL:.0f} data sets. Real labels have tails: a structure listed "
            "here is one to look at, not one to delete."
        )
    ]
    structures = diagnosis.structures
    for kind, title in KINDS.items():
        found = [outlier for outlier in diagnosis.outliers if outlier.kind == kind]
        if not found:
            continue
        count, total = len(found), len(structures)
        rows = [
            [
                str(outlier.structure),
                place(outlier.structure),
                formula(structures, outlier.structure),
                str(structures.config_type[outlier.structure]),
                outlier.why,
            ]
            for outlier in found[:_SHOWN]
        ]
        columns = [
            ("index", NUMBER),
            ("where", TEXT),
            ("atoms", TEXT),
            ("config_type", TEXT),
            ("why", LONG),
        ]
        parts += [
            heading(f"{title}: {count} of {total}, {count / total:.1%}"),
            table(columns, rows),
        ]
        rest = [str(outlier.structure) for outlier in found[_SHOWN:]]
        if rest:
            end = ", …" if len(rest) > _LISTED else ""
            indices = text(", ".join(rest[:_LISTED]) + end)
            parts.append(details(f"{len(rest)} more, by index", indices))
    if len(parts) == 1:
        parts.append(text("None."))
    return parts
