"""Runs on one set by their settings: loss, ratio and seed."""

import argparse
import functools
import pathlib
import tempfile

import numpy as np

from evidence import data, measures
from evidence.losses import all_losses
from evidence.store import Store
from evidence.trainer import Trainer
from tfpes.layers import PESNormalization

SETTINGS = {
    "cutoff": 4.0,
    "most": 320,
    "batch_size": 8,
    "channels": 16,
    "blocks": 2,
    "basis_size": 32,
    "epochs": 40,
    "learning_rate": 1e-2,
}
"""Of all runs: cutoff in Å, structures to train on at most, network, budget."""

QUICK = {**SETTINGS, "most": 64, "epochs": 8}
RATIOS = tuple(10.0**power for power in range(-3, 4))
FARTHEST = 1e-7, 1e7
QUICK_RATIOS = (1e-2, 1.0, 1e2)
RATES = (3e-3, 1e-2, 3e-2)
"""Learning rates that the best ratio of each loss is tried with."""

LOSSES = ("raw", "per atom", "per √N", "standardized", "standardized, auto")


def normalization(structures, size_law, **options):
    """Return an adapted layer."""
    layer = PESNormalization(size_law=size_law, **options)
    layer.adapt(structures.batches(64), verbose=0)
    return layer


class Study:
    """Runs of benchmarks 1 and 2 on a set.

    All runs have the same structures, network, baseline and output scale (those of
    the auto law); only the loss, its ratio and the seed differ.
    """

    def __init__(self, name, folder, settings, ratios, seeds):
        """Read what is stored."""
        self.name, self.settings = name, settings
        self.ratios, self.seeds = ratios, seeds
        self.store = Store(folder / f"losses_{name}.jsonl", settings)

    # Nothing is loaded and compiled if all runs are there.
    @functools.cached_property
    def parts(self):
        """Structures to train, to validate and to test on."""
        return data.load(self.name, self.settings["cutoff"], self.settings["most"])

    @functools.cached_property
    def laws(self):
        """The layers of the independent and the auto law."""
        return [normalization(self.parts[0], law) for law in ("independent", "auto")]

    @functools.cached_property
    def trainer(self):
        """The compiled step."""
        train, valid, test = self.parts
        others = {"valid": valid, "test": test}
        return Trainer(train, others, self.laws[1], self.settings)

    def sweep(self, losses):
        """Run all ratios with the first seed; return {loss: [run]} by ratio.

        A loss that is best at an end of the sweep is followed beyond it, by decades.
        """
        ratios = {loss: list(self.ratios) for loss in losses}
        while True:
            runs = [
                self._run(loss, ratio, 0)
                for loss in losses
                for ratio in sorted(ratios[loss])
            ]
            found = _by_loss(self.store.complete(runs, self.execute, "sweep"))
            beyond = {loss: _beyond(found[loss]) for loss in losses}
            if not any(beyond.values()):
                return found
            for loss, ratio in beyond.items():
                ratios[loss] += [ratio] if ratio else []

    def best(self, losses):
        """Return {loss: ratio} with the least validation error.

        The sweep in decades, refined by half a decade on both sides of its best.
        """
        coarse = self.sweep(losses)
        fine = [
            self._run(loss, measures.rounded(centre * 10**power), 0)
            for loss, runs in coarse.items()
            for centre in [min(runs, key=_validation)["run"]["ratio"]]
            for power in (-0.5, 0.5)
        ]
        fine = _by_loss(self.store.complete(fine, self.execute, "refinement"))
        return {
            loss: min(runs + fine[loss], key=_validation)["run"]["ratio"]
            for loss, runs in coarse.items()
        }

    def rates(self, pairs):
        """Run (loss, ratio) pairs with each learning rate; return {pair: [run]}."""
        runs = [self._run(*pair, 0, rate) for pair in pairs for rate in RATES]
        done = self.store.complete(runs, self.execute, "learning rates")
        return {
            pair: done[i * len(RATES) : (i + 1) * len(RATES)]
            for i, pair in enumerate(pairs)
        }

    def repeat(self, chosen):
        """Run (loss, ratio, rate) with all seeds; return their runs, seed by seed."""
        runs = [
            self._run(loss, ratio, seed, rate)
            for loss, ratio, rate in chosen
            for seed in range(self.seeds)
        ]
        done = self.store.complete(runs, self.execute, "seeds")
        return [done[i : i + self.seeds] for i in range(0, len(done), self.seeds)]

    def _run(self, loss, ratio, seed, rate=None):
        rate = self.settings["learning_rate"] if rate is None else rate
        return {"loss": loss, "ratio": ratio, "seed": seed, "learning_rate": rate}

    def execute(self, loss, ratio, seed, learning_rate):
        """Train and measure; gradients with the second seed, which sweeps leave out."""
        independent, auto = self.laws
        losses = all_losses(independent, auto)
        history = self.trainer.train(
            losses[loss], ratio, seed, self.settings["epochs"], learning_rate
        )
        result = summary(self.trainer, auto, independent)
        result["loss"] = history[-1]
        if seed == 1:
            result["gradient"] = self._gradient(losses[loss])
        return result

    def _gradient(self, loss):
        part = "grouping 0"
        end = self.trainer.slopes(part), self.trainer.compare(part)
        return {
            "start": measures.gradient_shares(*self._start, loss),
            "end": measures.gradient_shares(*end, loss),
        }

    @functools.cached_property
    def _start(self):
        trained = self.trainer.model.get_weights()
        self.trainer.reset(1)
        found = self.trainer.slopes("grouping 0"), self.trainer.compare("grouping 0")
        self.trainer.model.set_weights(trained)
        return found


def summary(trainer, auto, independent):
    """Return what is stored of a trained network."""
    valid, test = trainer.compare("valid"), trainer.compare("test")
    if not all(np.isfinite(part[1]).all() for part in (test.energy, test.forces)):
        return {"diverged": True}
    return {
        "valid": measures.combined(valid, auto),
        "valid_total": measures.combined_total(valid, auto),
        "test": measures.combined(test, auto),
        "test_total": measures.combined_total(test, auto),
        "slope": measures.size_slope(test, independent),
        "slope_auto": measures.size_slope(test, auto),
        "errors": measures.errors(test, auto),
    }


def best_rate(runs):
    """Return the learning rate of the run with the least validation error."""
    return min(runs, key=_validation)["run"]["learning_rate"]


def _validation(run):
    return run["result"].get("valid") or np.inf


def _beyond(runs):
    """Return the next ratio if the best is the first or the last, but not forever."""
    ratios = [run["run"]["ratio"] for run in runs]
    best = min(runs, key=_validation)["run"]["ratio"]
    factor = {min(ratios): 0.1, max(ratios): 10.0}.get(best)
    following = factor and measures.rounded(best * factor)
    return following if following and FARTHEST[0] <= following <= FARTHEST[1] else None


def _by_loss(runs):
    found = {}
    for run in runs:
        found.setdefault(run["run"]["loss"], []).append(run)
    return found


def arguments(description, sets=data.SETS):
    """Read the command line that all four scripts have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("sets", nargs="*", help=", ".join(sets))
    parser.add_argument("--quick", action="store_true", help="tiny runs, in minutes")
    parser.add_argument("--output", type=pathlib.Path, help="default: docs/results")
    found = parser.parse_args()
    found.sets = data.available(found.sets or sets)
    if found.output is None:
        results = pathlib.Path(__file__).parents[2] / "docs" / "results"
        quick = pathlib.Path(tempfile.gettempdir()) / "tfpes-evidence-quick"
        found.output = quick if found.quick else results
    found.settings = QUICK if found.quick else SETTINGS
    found.ratios = QUICK_RATIOS if found.quick else RATIOS
    found.seeds = 2 if found.quick else 3
    return found
