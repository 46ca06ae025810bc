"""Pictures of a training run."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from tfpes.plotting import STYLE, save_figure


def plot_learning_curves(
    path: pathlib.Path, history: Mapping[str, Sequence[float]], complete: int
) -> None:
    """Draw losses in units of the labels' spread, and force and energy errors.

    Args:
        path: of the picture.
        history: of the fit.
        complete: number of epochs over all training data. What a budget of time cut
            short saw only a part of them, and is not comparable.
    """
    epochs = np.arange(1, len(history["loss"]) + 1)
    panels = (
        ("energy_loss", "energy loss (standardized)"),
        ("forces_loss", "force loss (standardized)"),
        ("energy_mae", "energy MAE [eV/atom]"),
        ("forces_rmse", "force RMSE [eV/Å]"),
    )
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(9.5, 6.5), sharex=True)
        for axes, (key, label) in zip(grid.flat, panels, strict=True):
            curves = (key, "training", complete), (f"val_{key}", "validation", None)
            for name, text, end in curves:
                if name in history:
                    values = np.asarray(history[name][:end], dtype=float)
                    axes.plot(epochs[: len(values)], values, marker=".", label=text)
            axes.set(ylabel=label, yscale="log")
        grid[0, 0].legend()
        for axes in grid[1]:
            axes.set_xlabel("epoch")
        save_figure(figure, path)
