"""Errors as tables to print."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tfpes.evaluation.errors import Errors
from tfpes.terminal import printable

_MOST_ROWS = 30
"""Of one kind of group; a file has them all."""


def _number(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _milli(value: float) -> str:
    return _number(1e3 * value)


def _spreads(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else _number(value)


def _cosine(value: float) -> str:
    return f"{value:.3f}"


def _percent(value: float) -> str:
    return f"{value:.{1 if 0 < value < 0.1 else 0}%}"


_CAPTION = """\
E and W in meV/atom, F in meV/Å; E tot in eV, the largest F error in eV/Å.
E', F', W' and F/RMS: relative to the spread of the labels."""

_Columns = tuple[tuple[str, str, Callable[[float], str]], ...]

_ENERGIES_AND_FORCES: _Columns = (
    ("E\nMAE", "energy_mae", _milli),
    ("E\nRMSE", "energy_rmse", _milli),
    ("E tot\nRMSE", "total_energy_rmse", _number),
    ("E'\nRMSE", "standardized_energy_rmse", _spreads),
    ("F\nMAE", "force_mae", _milli),
    ("F\nRMSE", "force_rmse", _milli),
    ("F\n/RMS", "relative_force_rmse", _percent),
    ("F'\nRMSE", "standardized_force_rmse", _spreads),
    ("F\ncos", "force_cosine", _cosine),
    ("F\nmax", "max_force_error", _number),
    ("\nEFwT", "efwt", _percent),
)
_VIRIALS: _Columns = (
    ("W\nMAE", "virial_mae", _milli),
    ("W\nRMSE", "virial_rmse", _milli),
    ("W'\nRMSE", "standardized_virial_rmse", _spreads),
)


_DISPENSABLE = (
    "relative_force_rmse", "total_energy_rmse", "force_cosine", "max_force_error",
    "efwt", "energy_mae", "force_mae",
)  # fmt: skip
"""What a narrow terminal does not show, the first first."""


@dataclasses.dataclass(frozen=True)
class ErrorTable:
    """A table of energies and forces, and one of virials if there are any.

    Printed with rich, it is at most 100 columns wide with usual numbers, and 80 where
    the terminal has no more: then it leaves out what is least needed.

    Attributes:
        groups: ``overall``, ``by_size``, ...; see :class:`Evaluation`.
        title: above the table.
    """

    groups: Mapping[str, tuple[Errors, ...]]
    title: str | None = None

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[Any]:
        """Yield the tables."""
        columns = _ENERGIES_AND_FORCES
        # In the width that there is, everything fits.
        endless = options.update_width(1000)
        for name in (*_DISPENSABLE, None):
            table = _table(self.groups, columns, self.title)
            if Measurement.get(console, endless, table).maximum <= options.max_width:
                break
            columns = tuple(column for column in columns if column[1] != name)
        yield table
        if self.groups["overall"][0].virial_rmse is not None:
            yield ""
            yield _table(self.groups, _VIRIALS, "Virials")
        # Apart, since a caption is wrapped at the width of its table.
        yield _CAPTION


def _table(
    groups: Mapping[str, tuple[Errors, ...]], columns: _Columns, title: str | None
) -> Table:
    (overall,) = groups["overall"]
    # A column in which nothing is known only takes space.
    shown = [c for c in columns if getattr(overall, c[1]) is not None]
    table = Table(
        # A text, since a string would be taken for markup.
        title=None if title is None else Text(printable(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("", no_wrap=True, max_width=20)
    for heading in ("\nn", *(column[0] for column in shown)):
        # A digit less would be another number: rather on two lines.
        table.add_column(heading, justify="right", overflow="fold")
    for kind, rows in groups.items():
        if rows and kind.startswith("by_"):
            table.add_section()
            table.add_row(Text(kind.removeprefix("by_"), "dim"))
        for row in rows[:_MOST_ROWS]:
            values = [(getattr(row, name), form) for _, name, form in shown]
            cells = ["-" if value is None else form(value) for value, form in values]
            table.add_row(Text(printable(row.name)), str(row.structures), *cells)
        if len(rows) > _MOST_ROWS:
            table.add_row(Text(f"and {len(rows) - _MOST_ROWS} more", "dim"))
    table.add_section()
    return table
