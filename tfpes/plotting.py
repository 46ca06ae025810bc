"""The style of all pictures."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt

from tfpes.files import replacing

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 120,
    "font.size": 10,
    "legend.frameon": False,
}


def save_figure(figure: plt.Figure, path: pathlib.Path) -> None:
    """Write a figure and forget it."""
    figure.tight_layout()
    with replacing(path) as unfinished:
        figure.savefig(unfinished)
    plt.close(figure)
