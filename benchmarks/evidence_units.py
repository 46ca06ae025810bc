"""Units: does training depend on those of the labels?

    python benchmarks/evidence_units.py [SET ...] [--quick] [--output FOLDER]

Converts a set to other units, positions, cutoff and labels, adapts anew and trains with
the same seed. If lengths stay in Å, energies and forces change by the same factor, so
that the ratio of their raw losses stays; with lengths in Bohr it does not. Adam divides
by the size of the gradient, which hides a common factor of the loss, but clipping does
not: "raw, clipped" limits the norm of the gradient to 10. Runs are kept: what is there
is not repeated.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from evidence import data
from evidence.losses import all_losses
from evidence.measures import combined
from evidence.show import STYLE, mean_and_spread, save, table, write
from evidence.store import Store
from evidence.study import arguments, normalization
from evidence.trainer import Trainer

LOSSES = {
    "standardized, auto": math.inf,
    "raw": math.inf,
    "raw, clipped": 10.0,
}
"""With the largest norm of the gradient."""


class UnitsStudy:
    """Runs on a set in one system of units after the other."""

    def __init__(self, name, settings):
        """Load the set."""
        self.settings, self.units = settings, None
        self.parts = data.load(name, settings["cutoff"], settings["most"])

    def prepare(self, units):
        """Convert, adapt and compile."""
        self.units = units
        train, valid, test = (data.convert(p, *data.UNITS[units]) for p in self.parts)
        self.laws = [normalization(train, law) for law in ("independent", "auto")]
        others = {"valid": valid, "test": test}
        self.trainer = Trainer(train, others, self.laws[1], self.settings)

    def execute(self, loss, units, seed):
        """Train and measure, errors in eV and Å."""
        if units != self.units:
            self.prepare(units)
        numbers = all_losses(*self.laws)[loss.removesuffix(", clipped")]
        budget = self.settings["epochs"], self.settings["learning_rate"]
        history = self.trainer.train(numbers, 1.0, seed, *budget, LOSSES[loss])
        test = self.trainer.compare("test")
        energy, length = data.UNITS[units]
        error = (test.energy[0] - test.energy[1]) / test.num_atoms
        force = np.float64(test.forces[0] - test.forces[1])
        return {
            "first": [f"{x:.12g}" for x in history[0]],
            "history": [f"{x:.9g}" for x in history[:, 0]],
            "energy_rmse": energy * np.sqrt(np.mean(error**2)),
            "force_rmse": energy / length * np.sqrt(np.mean(force**2)),
            "combined": combined(test, self.laws[1]),
        }


def curve(run):
    """Return the loss of each epoch, relative to the first."""
    history = np.array(run["result"]["history"], float)
    return history / history[0]


def deviation(run, reference):
    """Return the largest relative difference in the first, and in any epoch."""
    found = np.abs(curve(run) / curve(reference) - 1)
    first, origin = (float(r["result"]["first"][0]) for r in (run, reference))
    return abs(first / origin - 1), found.max()


def rows(runs, seeds):
    for loss in LOSSES:
        for units in data.UNITS:
            mine = [runs[loss, units, seed] for seed in seeds]
            origin = [runs[loss, "eV, Å", seed] for seed in seeds]
            off = [deviation(*pair) for pair in zip(mine, origin, strict=True)]
            results = [run["result"] for run in mine]
            yield (
                loss, units,
                # A raw loss has a unit: only its course can be compared.
                f"{max(d[0] for d in off):.0e}" if "standard" in loss else "-",
                f"{max(d[1] for d in off):.0e}",
                mean_and_spread([r["energy_rmse"] for r in results], 1e3),
                mean_and_spread([r["force_rmse"] for r in results], 1e3),
                mean_and_spread([r["combined"] for r in results], form=".3f"),
            )  # fmt: skip


def draw(runs, path):
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, 3, figsize=(8, 3.0), sharey=True)
        for axes, loss in zip(panels, LOSSES, strict=True):
            for units, style in zip(
                data.UNITS, ("-", (0, (5, 5)), "--", "-.", ":"), strict=True
            ):
                values = curve(runs[loss, units, 0])
                axes.semilogy(np.arange(1, len(values) + 1), values, ls=style, lw=1.8,
                              label=units)  # fmt: skip
            axes.set_title(loss)
            axes.set_xlabel("epoch")
        panels[0].set_ylabel("loss / that of the first epoch")
        panels[-1].legend(fontsize=9)
        save(figure, path)


def main():
    options = arguments(__doc__.splitlines()[0], ("alloys",))
    tables = []
    for name in options.sets:
        store = Store(options.output / f"units_{name}.jsonl", options.settings)
        seeds = range(options.seeds)
        keys = [(a, u, s) for u in data.UNITS for a in LOSSES for s in seeds]
        study = UnitsStudy(name, options.settings) if _missing(store, keys) else None
        todo = [{"loss": a, "units": u, "seed": s} for a, u, s in keys]
        done = store.complete(todo, study and study.execute, "units")
        runs = dict(zip(keys, done, strict=True))
        columns = ("loss", "units", "first epoch, off by", "all epochs, off by",
                   "E/N RMSE, meV", "F RMSE, meV/Å", "combined error")  # fmt: skip
        tables.append(
            table(f"{name}, ratio 1 : 1, mean ± half the range of the seeds", columns,
                  list(rows(runs, seeds)))
        )  # fmt: skip
        draw(runs, options.output / f"units_{name}.png")
    write(options.output / "units.json", options.settings, tables)


def _missing(store, keys):
    return store.missing([{"loss": a, "units": u, "seed": s} for a, u, s in keys])


if __name__ == "__main__":
    main()
