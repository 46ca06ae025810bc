"""Tables in the terminal and in files, and pictures."""

import matplotlib as mpl
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from evidence.measures import rounded
from tfpes.files import write_json
from tfpes.plotting import STYLE

mpl.use("Agg")
console = Console(width=150)

COLORS = {
    "raw": "#777777",
    "per atom": "#e69f00",
    "per √N": "#56b4e9",
    "standardized": "#009e73",
    "standardized, auto": "#0000b3",
}
WIDTH = 8.0
"""Of pictures, inches: at 100 dots per inch they are 800 pixels wide."""


def table(title, columns, rows):
    """Print a table of strings, and return it as JSON has it."""
    rows = [list(row) for row in rows]
    shown = Table(title=title, title_justify="left", pad_edge=False)
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    return {"title": title, "columns": list(columns), "rows": rows}


def mean_and_spread(values, factor=1.0, form=".3g"):
    """Write the mean and half the range of values, seed by seed."""
    values = [factor * value for value in values if value is not None]
    if not values:
        return "-"
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    return f"{mean:{form}} ±{half:.2g}"


def write(path, settings, tables, **numbers):
    """Write what a document shows."""
    content = {"settings": settings, "tables": tables, **numbers}
    write_json(path, rounded(content))
    console.print(f"written: {path}")


def save(figure, path):
    """Write a picture 800 pixels wide."""
    figure.set_size_inches(WIDTH, figure.get_size_inches()[1])
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=100)
    plt.close(figure)


__all__ = ["COLORS", "STYLE", "WIDTH", "console", "mean_and_spread", "save",
           "table", "write"]  # fmt: skip
