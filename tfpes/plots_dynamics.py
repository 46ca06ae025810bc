"""Picture of a molecular dynamics run."""

import pathlib
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from tfpes.plotting import STYLE, save_figure

PANELS = (
    ("temperature_K", "temperature [K]"),
    ("potential_eV_per_atom", "potential energy\n[eV/atom]"),
    ("drift_meV_per_atom", "change of the conserved\nenergy [meV/atom]"),
    ("volume_A3", "volume [Å³]"),
)


def plot_dynamics(path: pathlib.Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw temperature, energies and volume, if it changes, against time."""
    panels = [
        (label, values)
        for name, label in PANELS
        if name in rows[0]
        and (name != "volume_A3" or np.ptp([row[name] for row in rows]) > 0)
        for values in [[row[name] for row in rows]]
    ]
    picoseconds = [1e-3 * row["time_fs"] for row in rows]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(panels), 1, sharex=True, figsize=(7, 1.9 * len(panels) + 0.6)
        )
        for axes, (label, values) in zip(grid, panels, strict=True):
            axes.plot(picoseconds, values, linewidth=1)
            axes.set_ylabel(label)
            axes.ticklabel_format(axis="y", useOffset=False)
        grid[-1].set_xlabel("time [ps]")
        figure.align_ylabels()
        save_figure(figure, path)
