"""Robustness of the variances: errors after training on damaged sets.

    python benchmarks/evidence_robust.py [SET ...] [--quick] [--output FOLDER]

Training sets as they are; with three structures left of one element; with 1 % of the
energies moved by 20 standard deviations; with two elements only in equal numbers, so
that their means are known only together. The statistics of the damaged set go into the
model (baseline and scale) and into its losses, as a user would have it; what differs is
how the variances are estimated. Ratio 1 : 1. The validation and test sets are not
damaged. Runs are kept: what is there is not repeated.
"""

import functools

import matplotlib.pyplot as plt
import numpy as np
from evidence import data
from evidence.losses import standardized
from evidence.measures import combined
from evidence.show import STYLE, mean_and_spread, save, table, write
from evidence.store import Store
from evidence.study import arguments, normalization
from evidence.trainer import Trainer

from tfpes.elements import SYMBOLS
from tfpes.statistics.standardize import NAMES

VARIANCES = {
    "per element": {"size_law": "independent"},
    "pooled": {"size_law": "independent", "per_element": False},
    "robust": {"size_law": "independent", "robust": True},
    "collective": {"size_law": "collective"},
    "auto, robust": {"size_law": "auto", "robust": True},
}
"""Options of PESNormalization."""

DAMAGE = ("none", "rare element", "1 % of energies wrong", "elements tied")


class RobustStudy:
    """Runs on a set, one damage after the other."""

    def __init__(self, name, settings):
        """Load the set."""
        self.settings, self.damage = settings, None
        self.parts = data.load(name, settings["cutoff"], settings["most"])
        self.reference = normalization(self.parts[0], "auto")

    def prepare(self, damage):
        """Damage the training set, and compile for its shapes."""
        train, valid, test = self.parts
        counts = data.compositions(test)
        self.damage, self.what = damage, ""
        self.affected = np.zeros(len(test), bool)
        if damage == DAMAGE[1]:
            train, element = data.thin(train)
            self.affected, self.what = counts[:, element] > 0, SYMBOLS[element]
        elif damage == DAMAGE[2]:
            train = data.corrupt(train, self.reference)
        elif damage == DAMAGE[3]:
            train, (a, b) = data.tie(train)
            self.affected = counts[:, a] != counts[:, b]
            self.what = f"{SYMBOLS[a]}, {SYMBOLS[b]}"
        self.train = train
        self.layer.cache_clear()
        layer = normalization(train, "independent")
        self.trainer = Trainer(
            train, {"valid": valid, "test": test}, layer, self.settings
        )

    @functools.lru_cache  # noqa: B019  (cleared by `prepare`)
    def layer(self, variances):
        """Return the statistics of the damaged set."""
        return normalization(self.train, **VARIANCES[variances])

    def execute(self, damage, variances, seed):
        """Train on the damaged set and measure."""
        if damage != self.damage:
            self.prepare(damage)
        layer = self.layer(variances)
        for name in NAMES:
            getattr(self.trainer.normalization, name).assign(getattr(layer, name))
        budget = self.settings["epochs"], self.settings["learning_rate"]
        self.trainer.train(standardized(layer), 1.0, seed, *budget)
        return self.measure(layer)

    def measure(self, layer):
        """Return errors on the test set, and what the statistics are."""
        test = self.trainer.compare("test")
        error = np.abs(test.energy[0] - test.energy[1]) / test.num_atoms
        force = np.float64(test.forces[0] - test.forces[1])
        affected = self._affected(test)
        spread = np.sqrt(layer.energy_variance.numpy()[self.train.elements])
        return {
            "structures": len(self.train),
            "affected": int(affected.sum()),
            "what": self.what,
            "smallest and largest σ_z": [spread.min(), spread.max()],
            "κ": np.sqrt(layer.collective_variance.numpy()),
            "energy_mae": error.mean(),
            "energy_rmse": np.sqrt(np.mean(error**2)),
            "energy_mae_affected": error[affected].mean() if affected.any() else None,
            "energy_mae_others": error[~affected].mean() if affected.any() else None,
            "force_rmse": np.sqrt(np.mean(force**2)),
            # The yardstick is that of the undamaged set, the same for all.
            "combined": combined(test, self.reference),
        }

    def _affected(self, test):
        """Return the same mask in the order of the comparison."""
        counts = data.compositions(self.parts[2])
        known = {row.tobytes(): flag for row, flag in zip(counts, self.affected,
                                                          strict=True)}  # fmt: skip
        return np.array([known[row.tobytes()] for row in test.composition])


def rows(runs, seeds):
    for damage in DAMAGE:
        for variances in VARIANCES:
            results = [runs[damage, variances, seed]["result"] for seed in seeds]
            first = results[0]
            low, high = first["smallest and largest σ_z"]

            def shown(key, results=results):
                return mean_and_spread([r[key] for r in results], 1e3)

            what = f"{damage} {first['what']} ({first['structures']})"
            yield (
                what if variances == "per element" else "", variances,
                f"{low:.2g}…{high:.2g}, κ {first['κ']:.2g}",
                shown("energy_mae"), shown("energy_rmse"),
                shown("energy_mae_affected"), shown("force_rmse"),
                mean_and_spread([r["combined"] for r in results]),
            )  # fmt: skip


def draw(runs, seeds, path):
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(DAMAGE), figsize=(8, 2.8), sharey=True)
        for axes, damage in zip(panels, DAMAGE, strict=True):
            for i, variances in enumerate(VARIANCES):
                found = [runs[damage, variances, s]["result"] for s in seeds]
                values = [r["combined"] for r in found]
                axes.plot(values, [-i] * len(values), "o", ms=5, alpha=0.6, color="C0")
                axes.plot(np.mean(values), -i, "|", ms=14, color="black")
            axes.set_title(damage, fontsize=9)
            axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
            axes.grid(axis="x", alpha=0.3)
            axes.set_xlabel("combined error", fontsize=9)
        panels[0].set_yticks([-i for i in range(len(VARIANCES))], list(VARIANCES))
        save(figure, path)


def main():
    options = arguments(__doc__.splitlines()[0], data.EMBEDDED)
    tables, seeds = [], range(options.seeds)
    for name in options.sets:
        store = Store(options.output / f"robust_{name}.jsonl", options.settings)
        keys = [(d, v, s) for d in DAMAGE for v in VARIANCES for s in seeds]
        todo = [{"damage": d, "variances": v, "seed": s} for d, v, s in keys]
        study = RobustStudy(name, options.settings) if store.missing(todo) else None
        done = store.complete(todo, study and study.execute, "variances")
        runs = dict(zip(keys, done, strict=True))
        columns = (
            "damage (structures)", "variances", "σ_z, eV", "E/N MAE meV",
            "E/N RMSE meV", "MAE affected", "F RMSE meV/Å", "combined",
        )  # fmt: skip
        title = f"{name}: test errors, mean ± half the range of the seeds"
        tables.append(table(title, columns, rows(runs, seeds)))
        draw(runs, seeds, options.output / f"robust_{name}.png")
    write(options.output / "robust.json", options.settings, tables)


if __name__ == "__main__":
    main()
