"""Pictures of errors."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tfpes.evaluation.comparison import Comparison
from tfpes.evaluation.groups import size_bins
from tfpes.plotting import STYLE, save_figure


def plot_parity(path: pathlib.Path, comparison: Comparison, title: str = "") -> None:
    """Draw predicted against true energies (about the baseline), forces and virials.

    Without isolated atoms, which are a cohesive energy away from all others.
    """
    size, bound = comparison.num_atoms, ~comparison.isolated
    baseline, name = comparison.energy_baseline, "(E - Σ μ) / N"
    if baseline is None:
        baseline, name = np.zeros_like(size), "E / N"
    energy = [((part - baseline) / size)[bound] for part in comparison.energy]
    virial = [(part / size[:, None, None])[bound].ravel() for part in comparison.virial]
    bound = bound[comparison.structure_index]
    forces = [part[bound].ravel() for part in comparison.forces]
    panels = [(energy, name, "eV/atom"), (forces, "force component", "eV/Å")]
    if np.isfinite(virial[0]).any():
        panels.append((virial, "virial component / N", "eV/atom"))
    with plt.rc_context(STYLE):
        figure, row = plt.subplots(1, len(panels), figsize=(4.75 * len(panels), 4.6))
        for axes, ((true, pred), text, unit) in zip(row, panels, strict=True):
            _parity(axes, true, pred, text, unit)
        if title:
            figure.suptitle(title)
        save_figure(figure, path)


def _parity(axes: Axes, true: NDArray, pred: NDArray, name: str, unit: str) -> None:
    present = np.isfinite(true)
    true, pred = true[present], pred[present]
    axes.set(xlabel=f"true {name} [{unit}]", ylabel=f"predicted {name} [{unit}]")
    if not len(true):
        axes.text(0.5, 0.5, "no labels", ha="center", transform=axes.transAxes)
        return
    error = np.sqrt(np.mean((pred - true) ** 2))
    low, high = min(true.min(), pred.min()), max(true.max(), pred.max())
    axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
    # Many points small and faint, few points large.
    area = np.clip(4000.0 / len(true), 3.0, 25.0)
    axes.scatter(true, pred, s=area, alpha=0.5, linewidths=0, rasterized=True)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(f"RMSE {error:.3g}, spread {true.std():.3g} {unit}")


def plot_error_by_size(path: pathlib.Path, comparison: Comparison) -> None:
    """Draw the standardized energy errors against the number of atoms."""
    size = comparison.num_atoms
    error, present = comparison.standardized_errors("energy")
    present &= ~comparison.isolated
    error = np.where(present, np.abs(error), np.nan)
    present = np.isfinite(error) & (error > 0)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 4.4))
        axes.scatter(
            size[present], error[present], s=10, alpha=0.5, linewidths=0, label="|ΔE'|"
        )
        for low, high in size_bins(size):
            chosen = (size >= low) & (size <= high) & np.isfinite(error)
            if chosen.any():
                root = np.sqrt(np.mean(error[chosen] ** 2))
                axes.plot([low * 0.93, high * 1.07], [root, root], color="C3")
        axes.plot([], [], color="C3", label="RMS by size")
        axes.axhline(1.0, color="0.6", linewidth=1, linestyle=":")
        axes.text(1.0, 1.0, "mean predictor ", ha="right", va="bottom", color="0.4",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set(
            xlabel="atoms in the structure",
            ylabel="energy error / spread of the labels",
        )
        if present.any():
            axes.set(xscale="log", yscale="log")
            # A lucky hit far below all others would squeeze them.
            axes.set_ylim(bottom=max(error[present].min(), 1e-3 * error[present].max()))
        axes.legend()
        save_figure(figure, path)
