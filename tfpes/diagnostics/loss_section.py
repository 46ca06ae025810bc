"""The part of the page about what losses weigh."""

from typing import Any

from tfpes.diagnostics.diagnosis import Diagnosis
from tfpes.diagnostics.markup import (
    NUMBER,
    TEXT,
    details,
    figure,
    number,
    paragraph,
    percent,
    table,
)

_NAMES = {"energy": "Energy losses", "forces": "Force losses"}


def loss_section(diagnosis: Diagnosis, pictures: dict[str, str]) -> list[str]:
    """Return pictures and tables of the shares, and what 1 : 1 means."""
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
        for group, heading in (("by_size", "atoms"), ("by_element", "element")):
            parts += [
                details(
                    f"{_NAMES[key]}: share of the {what}, {group.replace('_', ' ')}",
                    _shares(part, group, kind, heading),
                    key == "energy" and group == "by_size",
                )
                for kind, what in (("gradient", "squared gradient"), ("loss", "loss"))
            ]
    return parts + _balances(diagnosis)


def _shares(part: dict[str, Any], group: str, kind: str, heading: str) -> str:
    losses = {name: loss[kind][group] for name, loss in part["losses"].items()}
    columns = [(heading, TEXT), ("each label once", NUMBER)]
    columns += [(name, NUMBER) for name in losses]
    rows = []
    for name, count in part["count"][group].items():
        shares = [loss[name] for loss in losses.values()]
        rows.append([name, *((percent(share), share) for share in (count, *shares))])
    return table(columns, rows)


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
