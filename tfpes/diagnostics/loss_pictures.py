"""Pictures of what losses weigh."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tfpes.plotting import STYLE, save_figure

_MOST_ELEMENTS = 11
_OTHERS = "others"
_TITLES = {
    "energy": "an energy loss, if errors are as the spread of the labels",
    "forces": "a force loss, if errors are as the spread of the labels",
}


def plot_loss_shares(folder: pathlib.Path, shares: dict[str, Any]) -> None:
    """Draw the share of each size bin and each element in each loss.

    Args:
        folder: for ``loss_weights_energy.png`` and ``loss_weights_forces.png``, each
            if there are such labels.
        shares: from :func:`tfpes.diagnostics.loss_shares`.
    """
    with plt.rc_context(STYLE):
        for key, part in shares.items():
            figure = _plot_part(part, f"share of {_TITLES[key]}")
            save_figure(figure, folder / f"loss_weights_{key}.png")


def _plot_part(part: dict[str, Any], title: str) -> plt.Figure:
    rows = len(part["losses"]) + 1
    figure, grid = plt.subplots(2, 2, figsize=(11, 0.8 * rows + 2.2), sharey=True)
    for axes, group, colors in zip(
        grid, ("by_size", "by_element"), ("viridis", "tab20"), strict=True
    ):
        names = _largest(part["count"][group]) if group == "by_element" else None
        for panel, kind in zip(axes, ("loss", "gradient"), strict=True):
            bars = {"each label once": part["count"][group]}
            bars |= {name: loss[kind][group] for name, loss in part["losses"].items()}
            _stacked(panel, bars, names or list(part["count"][group]), colors)
        unit = "atoms" if group == "by_size" else None
        axes[1].legend(title=unit, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    grid[0, 0].set_title("loss", fontsize=10)
    grid[0, 1].set_title("squared gradient, per unit of spread", fontsize=10)
    grid[0, 0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    return figure


def _largest(count: dict[str, float]) -> list[str]:
    """Return the most frequent elements, in their order, and "others"."""
    frequent = sorted(count, key=lambda name: -count[name])[:_MOST_ELEMENTS]
    names = [name for name in count if name in frequent]
    return names if len(names) == len(count) else [*names, _OTHERS]


def _stacked(
    axes: Axes, bars: dict[str, dict[str, float]], names: list[str], colors: str
) -> None:
    """Draw one horizontal bar for each loss, divided among groups."""
    place = np.arange(len(bars))
    left = np.zeros(len(bars))
    palette = _palette(colors, len(names))
    for name, color in zip(names, palette, strict=True):
        width = np.array([_share(bar, name, names) for bar in bars.values()])
        axes.barh(place, width, 0.75, left, color=color, label=name, edgecolor="white")
        ink = "white" if color[:3] @ [0.299, 0.587, 0.114] < 0.55 else "black"
        for y, x, value in zip(place, left, width, strict=True):
            if value > 0.06:
                axes.text(
                    float(x + value / 2),
                    float(y),
                    f"{100 * value:.0f}",
                    color=ink,
                    ha="center",
                    va="center",
                    fontsize=7.5,
                )
        left += width
    axes.set_yticks(place, list(bars))
    axes.set(xlim=(0, 1), xticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _share(bar: dict[str, float], name: str, names: list[str]) -> float:
    if name != _OTHERS:
        return bar[name]
    return sum(value for other, value in bar.items() if other not in names)


def _palette(name: str, number: int) -> NDArray:
    if name == "tab20":
        return plt.get_cmap(name)(np.arange(number))
    return plt.get_cmap(name)(np.linspace(0.05, 0.95, number))
