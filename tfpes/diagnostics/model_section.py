"""The part of the page about the errors of a model."""

from collections.abc import Callable, Sequence

from tfpes.diagnostics.diagnosis import Diagnosis
from tfpes.diagnostics.markup import (
    NUMBER,
    TEXT,
    details,
    figure,
    heading,
    number,
    paragraph,
    table,
)
from tfpes.diagnostics.model_errors import worst_rows
from tfpes.evaluation import Errors


def model_section(
    diagnosis: Diagnosis, pictures: dict[str, str], place: Callable[[int], str] = str
) -> list[str]:
    """Return pictures, tables by group and the worst structures."""
    errors = diagnosis.errors
    if errors is None:
        return []
    evaluation = errors.evaluation
    parts = [
        paragraph(
            "ΔE' and ΔF' are errors in units of the spread of these labels: 1 is a "
            "model that knows only the composition. Energies of isolated atoms are "
            "left out."
        ),
        _errors((evaluation.overall,), ""),
        figure(pictures["parity"], "Predictions against labels."),
        figure(pictures["error_by_size"], "Standardized energy errors by size."),
    ]
    if "standardized_energy_errors" in pictures:
        parts.append(
            figure(
                pictures["standardized_energy_errors"],
                "Energy errors over their RMS against the normal law.",
            )
        )
    if errors.slope is not None:
        slope = errors.slope
        parts.append(
            paragraph(
                f"Slope of ln ΔE'² against ln N: {slope.slope:.2f} [{slope.low:.2f}, "
                f"{slope.high:.2f}] at 95 %, {slope.structures} structures."
            )
        )
    parts.append(_errors(evaluation.by_size, "atoms"))
    elements = _errors(evaluation.by_element, "element")
    parts.append(
        details("By element", elements, shown=len(evaluation.by_element) <= 12)
    )
    if evaluation.by_config_type:
        kinds = _errors(evaluation.by_config_type, "config_type")
        few = len(evaluation.by_config_type) <= 12
        parts.append(details("By config_type", kinds, shown=few))
    return parts + _worst(diagnosis, place)


def _errors(rows: Sequence[Errors], name: str) -> str:
    columns = [
        (name, TEXT),
        ("structures", NUMBER),
        ("E RMSE [meV/atom]", NUMBER),
        ("ΔE' RMS", NUMBER),
        ("F RMSE [meV/Å]", NUMBER),
        ("ΔF' RMS", NUMBER),
    ]
    return table(
        columns,
        [
            [
                row.name,
                str(row.structures),
                number(_milli(row.energy_rmse), ".1f"),
                number(row.standardized_energy_rmse),
                number(_milli(row.force_rmse), ".1f"),
                number(row.standardized_force_rmse),
            ]
            for row in rows
        ],
    )


def _milli(value: float | None) -> float | None:
    return None if value is None else 1e3 * value


def _worst(diagnosis: Diagnosis, place: Callable[[int], str]) -> list[str]:
    columns = [
        ("index", NUMBER),
        ("where", TEXT),
        ("atoms", TEXT),
        ("config_type", TEXT),
        ("ΔE / N [meV]", NUMBER),
        ("ΔE'", NUMBER),
        ("RMS ΔF'", NUMBER),
    ]
    if diagnosis.errors is None:
        return []
    found = worst_rows(diagnosis.errors, diagnosis.structures)
    parts = []
    for kind, title in (("energy", "Worst energies"), ("forces", "Worst forces")):
        rows = [
            [
                str(row["structure"]),
                place(row["structure"]),
                row["composition"],
                row["config_type"],
                number(1e3 * row["energy_error"], "+.1f"),
                number(row["standardized_energy"], "+.2f"),
                number(row["standardized_forces"], ".2f"),
            ]
            for row in found
            if row["kind"] == kind
        ]
        if rows:
            parts += [heading(title), table(columns, rows)]
    return parts
