"""How much structures of each size count, in three losses: nothing is trained.

The root mean square of (E - Σ n μ)/scale of the structures of similar size, with the
scale 1 (total energies), N (energies per atom) and s (tfpes, with the law that `auto`
takes). A loss is known up to a factor: over all structures each RMS is 1. Where a curve
is high, structures of that size rule the loss; flat is right.

    python benchmarks/spread.py          # seconds; prints the table, writes the picture
"""

import pathlib

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import tfpes
from tfpes.plotting import STYLE, save_figure

PICTURE = pathlib.Path(__file__).parents[1] / "docs/results/spread.png"
NAMES = ("total energy", "energy per atom", "tfpes")
STYLES = ("s:", "^--", "o-")
# As the report has them: sizes up to 4, 16, 64, ... atoms.
ENDS = 4.0 ** np.arange(1, 6)
LEAST = 20  # structures in a bin


def spreads(name):
    """Return mean sizes of bins, the RMS of each loss (3, bins), and the law."""
    structures = tfpes.data.load(name)
    structures = structures[~structures.isolated_atoms]
    norm = tfpes.layers.PESNormalization(size_law="auto")
    norm.adapt(structures.batches(64), verbose=0)
    number = tfpes.evaluation.compositions(structures)
    size = structures.num_atoms.astype(float)
    residual = structures.energy - norm.energy_baseline(number).numpy()
    scales = np.stack([np.ones_like(size), size, norm.energy_scale(number).numpy()])
    square = (residual / scales) ** 2
    square /= square.mean(axis=1, keepdims=True)
    place = np.searchsorted(ENDS, size)
    bins = [k for k in np.unique(place) if np.sum(place == k) >= LEAST]
    means = np.array([np.exp(np.log(size[place == k]).mean()) for k in bins])
    rms = np.array([square[:, place == k].mean(axis=1) ** 0.5 for k in bins])
    return means, rms.T, norm.report.content["fit"]["size_law"]


def main():
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(1, 2, figsize=(8.6, 3.2), sharey=True)
        for axes, name in zip(grid, ("molecules", "alloys"), strict=True):
            sizes, values, law = spreads(name)
            print(f"{name} ({law} law)")
            print(f"{'atoms':18s}", *(f"{size:7.1f}" for size in sizes))
            for label, rms, style in zip(NAMES, values, STYLES, strict=True):
                factor = rms.max() / rms.min()
                shown = " ".join(f"{value:7.2f}" for value in rms)
                print(f"{label:18s} {shown}, factor {factor:.1f}")
                axes.plot(sizes, rms, style, label=label)
            axes.axhline(1, color="0.7", linewidth=0.8, zorder=0)
            axes.set(xscale="log", yscale="log", xlabel="atoms N", title=name)
            axes.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
            axes.minorticks_off()
            axes.set_xticks([2, 10, 100], ["2", "10", "100"])
        grid[0].set_ylabel("RMS of E'")
        grid[0].legend()
        save_figure(figure, PICTURE)


if __name__ == "__main__":
    main()
