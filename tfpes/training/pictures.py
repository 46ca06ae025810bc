"""Pictures of a training run."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from tfpes.plotting import STYLE, save_figure


def plot_learning_curves(
    path: pathlib.Path,
    history: Mapping[str, Sequence[float]],
    done: float,
    best_epoch: int | None = None,
) -> None:
    """Draw losses in units of the labels' spread, and force and energy errors.

    Args:
        path: of the picture.
        history: of the fit.
        done: epochs over all training data, the last one maybe cut short by a budget
            of time: its training errors are of a part of the data, and not comparable.
        best_epoch: whose model was kept, counted from 0.
    """
    epochs = np.arange(1.0, len(history["loss"]) + 1)
    epochs[-1] = max(min(epochs[-1], done), epochs[-1] - 1)
    panels = (
        ("energy_loss", "energy loss (standardized)"),
        ("forces_loss", "force loss (standardized)"),
        ("energy_mae", "energy MAE [eV/atom]"),
        ("forces_rmse", "force RMSE [eV/Å]"),
    )
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(2, 2, figsize=(9.5, 6.5), sharex=True)
        for axes, (key, label) in zip(grid.flat, panels, strict=True):
            curves = (key, "training", int(done)), (f"val_{key}", "validation", None)
            for name, text, end in curves:
                if name in history:
                    values = np.asarray(history[name][:end], dtype=float)
                    axes.plot(epochs[: len(values)], values, marker=".", label=text)
            if best_epoch is not None:
                axes.axvline(epochs[best_epoch], color="0.6", ls=":", label="best")
            axes.set_ylabel(label)
            if axes.dataLim.minposy < np.inf:  # without, there is no logarithm
                axes.set_yscale("log")
        grid[0, 0].legend()
        for axes in grid[1]:
            axes.set_xlabel("epoch")
        save_figure(figure, path)
