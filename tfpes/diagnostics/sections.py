"""The sections of the page: each returns pieces of markup, none if it has nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from tfpes.diagnostics.findings import Diagnosis
from tfpes.diagnostics.listing import worst
from tfpes.diagnostics.markup import (
    NUMBER,
    TEXT,
    details,
    figure,
    heading,
    items,
    number,
    paragraph,
    percent,
    preformatted,
    table,
)
from tfpes.diagnostics.peers import peer_text
from tfpes.evaluation import Errors

# More rows than this fold away; and of the errors of a model.
_LONG, _LONG_OF_MODEL = 25, 12

_Columns = tuple[tuple[str, Callable[[Errors], str]], ...]
_Pictures = dict[str, str]


def statistics(diagnosis: Diagnosis) -> list[str]:
    """Say what is standardized, and how the fit went."""
    return [
        paragraph(
            "E' = (E - Σ n μ) / s with s² = Σ n σ² + N² κ², and F' = F / η: in units "
            "of their own spread. Mean square 1 is expected of each."
        ),
        details(
            "Report of the fit", preformatted(str(diagnosis.normalization.report)), True
        ),
    ]


def normal(diagnosis: Diagnosis, pictures: _Pictures) -> list[str]:
    """Compare E' and F' with the normal law."""
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
                f"{shape.force_tail or ''}"
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


def size(diagnosis: Diagnosis, pictures: _Pictures) -> list[str]:
    """Show the labels by number of atoms."""
    return [
        figure(
            pictures["size_law"],
            "Deviation of each energy from what its composition says, against size, "
            "and the spread s of each size law.",
        ),
        _folded("atoms", diagnosis.labels.by_size, _labels(diagnosis)),
    ]


def kinds(diagnosis: Diagnosis) -> list[str]:
    """Show the labels by ``config_type``, the most frequent first."""
    rows = sorted(diagnosis.labels.by_config_type, key=lambda row: -row.structures)
    return [_folded("config_type", rows, _labels(diagnosis))] if len(rows) > 1 else []


def elements(diagnosis: Diagnosis, pictures: _Pictures) -> list[str]:
    """Show the statistics of each element."""
    found = diagnosis.report["elements"]

    def statistic(name: str, form: str) -> Callable[[Errors], str]:
        return lambda row: number(found.get(row.name, {}).get(name), form)

    *shares, _, energies, forces = _labels(diagnosis)
    columns = (
        *shares,
        ("μ [eV]", statistic("energy_mean", ".6g")),
        ("σ [eV]", statistic("energy_deviation", ".4g")),
        ("η [eV/Å]", statistic("force_scale", ".4g")),
        energies,
        forces,
    )
    return [
        figure(pictures["elements"], "Spread of the energy and force of one atom."),
        _folded("element", diagnosis.labels.by_element, columns),
        paragraph("RMS E' is of the structures that hold the element.", "note"),
    ]


def _labels(diagnosis: Diagnosis) -> _Columns:
    """Return the columns of a table of labels: errors of a model that says 0."""
    every = diagnosis.labels.overall

    def mean(row: Errors) -> str:
        value = row.standardized_energy_mean
        return number(None if value is None else -value, "+.2f")

    return (
        ("structures", lambda row: str(row.structures)),
        ("share", lambda row: percent(row.structures / every.structures)),
        ("atoms", lambda row: str(row.atoms)),
        ("share", lambda row: percent(row.atoms / every.atoms)),
        ("mean E'", mean),
        ("RMS E'", lambda row: number(row.standardized_energy_rmse, ".2f")),
        ("RMS F'", lambda row: number(row.standardized_force_rmse, ".2f")),
    )


def _milli(value: float | None) -> str:
    return number(None if value is None else 1e3 * value, ".1f")


_ERRORS: _Columns = (
    ("structures", lambda row: str(row.structures)),
    ("E RMSE [meV/atom]", lambda row: _milli(row.energy_rmse)),
    ("ΔE' RMS", lambda row: number(row.standardized_energy_rmse)),
    ("F RMSE [meV/Å]", lambda row: _milli(row.force_rmse)),
    ("ΔF' RMS", lambda row: number(row.standardized_force_rmse)),
)


def _groups(name: str, rows: Sequence[Errors], columns: _Columns) -> str:
    return table(
        [(name, TEXT), *((text, NUMBER) for text, _ in columns)],
        [[row.name, *(show(row) for _, show in columns)] for row in rows],
    )


def _folded(name: str, rows: Sequence[Errors], columns: _Columns) -> str:
    """Return a table of groups that folds away if it is long."""
    whole = _groups(name, rows, columns)
    return whole if len(rows) <= _LONG else details(f"{len(rows)} rows", whole)


_NAMES = {"energy": "Energy losses", "forces": "Force losses"}


def losses(diagnosis: Diagnosis, pictures: _Pictures) -> list[str]:
    """Show the shares of losses, and what 1 : 1 means."""
    parts = [
        paragraph(
            "Shares of each loss if errors are as large as the spread of the labels, "
            "as they are when a training starts. The gradient is that with respect to "
            "errors in units of the spread, squared: how hard a network of unitless "
            "outputs is pulled."
        )
    ]
    for key, part in diagnosis.shares.items():
        parts.append(figure(pictures[f"loss_weights_{key}"], _NAMES[key]))
        for group, name in (("by_size", "atoms"), ("by_element", "element")):
            parts += [
                details(
                    f"{_NAMES[key]}: share of the {what}, {group.replace('_', ' ')}",
                    _shares(part, group, kind, name),
                    key == "energy" and group == "by_size",
                )
                for kind, what in (("gradient", "squared gradient"), ("loss", "loss"))
            ]
    if diagnosis.pressure is not None:
        raw, own = map(percent, diagnosis.pressure)
        text = (
            f"Share of the pressure in the squared virials: {raw}, standardized {own}."
        )
        parts.append(paragraph(text))
    if diagnosis.peers:
        text = preformatted(peer_text(diagnosis.peers))
        parts.append(details("Weights that bring other packages nearest to ours", text))
    return parts + _balances(diagnosis)


def _shares(part: dict[str, Any], group: str, kind: str, name: str) -> str:
    columns = {"each label once": part["count"][group]}
    columns |= {name: loss[kind][group] for name, loss in part["losses"].items()}
    return table(
        [(name, TEXT), *((column, NUMBER) for column in columns)],
        [
            [row, *((percent(shares[row]), shares[row]) for shares in columns.values())]
            for row in part["count"][group]
        ],
    )


def _balances(diagnosis: Diagnosis) -> list[str]:
    if not diagnosis.balances:
        return []
    columns = [
        ("losses", TEXT),
        ("mean squared energy error", NUMBER),
        ("mean squared force", NUMBER),
        ("ratio", NUMBER),
        ("energy weight that balances", NUMBER),
    ]
    rows = [
        [
            balance.name,
            f"{number(balance.energy)} {balance.energy_unit}",
            f"{number(balance.forces)} {balance.force_unit}",
            number(balance.ratio),
            number(1 / balance.ratio),
        ]
        for balance in diagnosis.balances
    ]
    return [
        paragraph("What 1 : 1 means, for a model that knows only the composition:"),
        table(columns, rows),
    ]


def model(
    diagnosis: Diagnosis, pictures: _Pictures, place: Callable[[int], str]
) -> list[str]:
    """Show errors of the model, by group, and the worst structures."""
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
        _groups("", (evaluation.overall,), _ERRORS),
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
    parts.append(_groups("atoms", evaluation.by_size, _ERRORS))
    for name, rows in (
        ("training", evaluation.by_training),
        ("element", evaluation.by_element),
        ("config_type", evaluation.by_config_type),
    ):
        if rows:
            whole = _groups(name, rows, _ERRORS)
            parts.append(details(f"By {name}", whole, len(rows) <= _LONG_OF_MODEL))
    return parts + worst(errors, diagnosis.structures, place)


def advice(diagnosis: Diagnosis) -> list[str]:
    """List what to do, what to know, and the warnings of the fit."""
    parts = []
    for title, sentences in (
        ("To do", diagnosis.to_do), ("To know", diagnosis.to_know),
    ):  # fmt: skip
        if sentences:
            parts += [heading(title), items(sentences)]
    warnings = diagnosis.report["warnings"]
    if warnings:
        parts += [heading("Warnings of the fit"), items(warnings)]
    return parts
