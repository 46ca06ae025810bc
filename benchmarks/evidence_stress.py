"""Stress: does a scale of its own for the shear make shear errors smaller?

    python benchmarks/evidence_stress.py [SET ...] [--quick] [--output FOLDER]

Trains on energies, forces and virials at 1 : 1 : 1, with the two scales of `adapt` and
with one: τ of all six components of W, of its trace as of the rest, with a collective
term if the data ask for it, as `adapt` had it before. All else is the same. Errors of
the pressure and of the shear are apart. Each run is stored when it is done.
"""

import keras
import numpy as np
from evidence import data
from evidence.show import mean_and_spread, table, write
from evidence.store import Store
from evidence.study import arguments

import tfpes
from tfpes.callbacks import CosineBudget
from tfpes.evaluation import compositions
from tfpes.statistics import CompositionTable, FitOptions, fit_virial, split_virial

LABELS = ("energy", "forces", "virial")
SCALES = ("two", "one")


def one_scale(structures):
    """Return statistics of virials with one τ: that of p √3 and the parts of D."""
    kept = np.isfinite(structures.virial).all(axis=(1, 2))
    counts = compositions(structures)[kept]
    pressure, square = split_virial(structures.virial[kept])
    tables = [CompositionTable(), CompositionTable()]
    for filled, values in zip(
        tables, (pressure, (3 * pressure**2 + 5 * square) / 6), strict=True
    ):
        filled.update(counts, values, isolated=np.zeros(len(values), bool))
    fit = fit_virial(*tables, FitOptions(size_law="auto")).deviator
    return {
        "pressure_mean": np.zeros(119),
        "pressure_scale": np.sqrt(fit.variance / 3),
        "collective_pressure_variance": fit.collective_variance / 3,
        "virial_scale": np.sqrt(fit.variance),
        "collective_virial_variance": fit.collective_variance,
    }


class Study:
    """Runs on a set with one compiled model."""

    def __init__(self, name, settings):
        """Adapt and compile."""
        self.settings = settings
        self.train, _, self.test = data.load(name, settings["cutoff"], settings["most"])
        norm = tfpes.layers.PESNormalization(size_law="auto")
        norm.adapt(self.train.batches(64, labels=LABELS), verbose=0)
        two = {key: norm.statistics[key] for key in one_scale(self.train)}
        self.scales = {"two": two, "one": one_scale(self.train)}
        self.budget = CosineBudget(settings["learning_rate"], epochs=settings["epochs"])
        self.model, losses = self.potential(norm), tfpes.losses
        self.model.compile(
            keras.optimizers.Adam(self.budget.schedule, global_clipnorm=10.0),
            {
                "energy": losses.EnergyLoss(norm),
                "forces": losses.ForceLoss(norm),
                "virial": losses.VirialLoss(norm),
            },
            jit_compile=True,
        )

    def potential(self, norm):
        """Return one with new weights."""
        settings = self.settings
        network = tfpes.models.SchNet(
            settings["cutoff"], settings["channels"], settings["blocks"]
        )
        return tfpes.models.Potential(network, norm, compute_virial=True)

    def execute(self, scales, seed):
        """Train from the start and measure, in meV/atom and meV/Å."""
        model, settings = self.model, self.settings
        model.normalization.assign_statistics(self.scales[scales])
        keras.utils.set_random_seed(seed)
        model.set_weights(self.potential(model.normalization).get_weights())
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        batches = self.train.batches(
            settings["batch_size"], shuffle=True, seed=seed, labels=LABELS
        )
        model.fit(
            batches, epochs=settings["epochs"], shuffle=False, verbose=0,
            callbacks=[self.budget],
        )  # fmt: skip
        found = tfpes.evaluate(model, self.test)
        true, pred = found.comparison.virial
        error = (pred - true) / found.comparison.num_atoms[:, None, None]
        pressure, square = split_virial(error[np.isfinite(error).all(axis=(1, 2))])
        return {
            "pressure": 1e3 * np.sqrt(np.mean(pressure**2)),
            "shear": 1e3 * np.sqrt(np.mean(square)),
            "energy": 1e3 * found.overall.energy_rmse,
            "forces": 1e3 * found.overall.force_rmse,
        }


def main():
    options = arguments(__doc__.splitlines()[0], ("nbmotaw_mvl", "alloys"))
    seeds, rows = range(4), []
    for name in options.sets:
        store = Store(options.output / f"stress_{name}.jsonl", options.settings)
        todo = [{"scales": a, "seed": s} for s in seeds for a in SCALES]
        study = Study(name, options.settings) if store.missing(todo) else None
        done = store.complete(todo, study and study.execute, "stress")
        for scales in SCALES:
            results = [
                run["result"]
                for key, run in zip(todo, done, strict=True)
                if key["scales"] == scales
            ]
            keys = ("pressure", "shear", "energy", "forces")
            cells = (mean_and_spread([r[key] for r in results]) for key in keys)
            rows.append([name, scales, *cells])
    columns = ("set", "scales", "p / N RMSE, meV", "shear / N RMSE, meV",
               "E/N RMSE, meV", "F RMSE, meV/Å")  # fmt: skip
    title = "test errors at 1 : 1 : 1, mean ± half the range of four seeds"
    tables = [table(title, columns, rows)]
    write(options.output / "stress.json", options.settings, tables)


if __name__ == "__main__":
    main()
