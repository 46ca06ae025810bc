"""Which scales hold on data that they were not fitted to: held-out likelihoods.

    python benchmarks/laws.py [SET ...] [--seeds N]

For each set, the Gaussian negative log-likelihood of what five-fold cross-validation
leaves out, folds by composition: of an energy under each size law, of a force component
with one scale, with a scale for each element, and with those of `adapt`; of a virial
(its six components together) with one scale and with two. Then what the prior makes of
a quiet element beside a loud one. Sets that are not in ../shared/data are left
out. `--markdown` prints the tables of docs/statistics.md.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
from rich.console import Console
from rich.table import Table

import tfpes
from tfpes.evaluation import compositions
from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_energy,
    fit_forces,
    fit_virial,
    split_virial,
)

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
EMBEDDED = ("alloys", "molecules")
SETS = ("nbmotaw_mvl", "mlearn6", "mptrj_random_1k", "acac_botnet", *EMBEDDED)
_PLAIN = {"raw": 0.0, "per √N": 0.5, "per atom": 1.0}
"""Laws with one constant: the scale grows as this power of N."""
TRUE = (0.05, 1.0)
STRENGTHS = (10.0, 1.0, 0.1)


@dataclasses.dataclass
class Labels:
    """Structures without isolated atoms: composition, energies, forces, virials."""

    composition: np.ndarray
    energy: np.ndarray
    virial: np.ndarray
    number: np.ndarray
    index: np.ndarray
    forces: np.ndarray

    def take(self, chosen: np.ndarray) -> "Labels":
        """Return the structures of a mask."""
        atoms = chosen[self.index]
        return Labels(
            self.composition[chosen],
            self.energy[chosen],
            self.virial[chosen],
            self.number[atoms],
            self.index[atoms],
            self.forces[atoms],
        )


def read(name: str) -> Labels | None:
    if name in EMBEDDED:
        structures = tfpes.data.load(name)
    elif (path := SHARED / f"{name}.xyz").exists():
        structures = tfpes.data.read(path, 5.0, verbose=False)
    else:
        return None
    structures = structures[~structures.isolated_atoms]
    return Labels(
        compositions(structures),
        structures.energy,
        np.asarray(structures.virial, float),
        structures.atomic_numbers,
        structures.structure_index,
        np.asarray(structures.forces, float),
    )


def folds(labels: Labels, seed: int):
    """Yield (training, test), by composition, or by structure if there are few."""
    _, group = np.unique(labels.composition, axis=0, return_inverse=True)
    group = group.ravel()
    if group.max() < 10:
        group = np.arange(len(group))
    fold = np.random.default_rng(seed).permutation(group.max() + 1)[group] % 5
    for number in range(5):
        train, test = fold != number, fold == number
        strange = ~labels.composition[train].any(axis=0)
        test &= ~labels.composition[:, strange].any(axis=1)
        yield labels.take(train), labels.take(test)


def nll(residual, variance):
    return 0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)


def table_of(composition, values):
    table = CompositionTable()
    table.update(composition, values, isolated=np.zeros(len(values), bool))
    return table


def variance_of(fit, composition):
    size = composition.sum(axis=1)
    return composition @ fit.variance + fit.collective_variance * size**2


def energies(train: Labels, test: Labels) -> dict[str, np.ndarray]:
    n, e = train.composition, train.energy
    found = {}
    for name, power in _PLAIN.items():
        scale = n.sum(axis=1) ** power
        columns = n.any(axis=0)
        design = n[:, columns] / scale[:, None]
        mean, _, rank, _ = np.linalg.lstsq(design, e / scale, rcond=None)
        square = np.sum((e / scale - design @ mean) ** 2) / max(len(e) - rank, 1)
        residual = test.energy - test.composition[:, columns] @ mean
        power_of_size = test.composition.sum(axis=1) ** (2 * power)
        found[name] = nll(residual, square * power_of_size)
    table = table_of(n, e)
    for name, options in {
        "independent": FitOptions(),
        "collective, one σ": FitOptions(size_law="collective", per_element=False),
        "collective": FitOptions(size_law="collective"),
        "auto": FitOptions(size_law="auto"),
    }.items():
        fit = fit_energy(table, options)
        residual = test.energy - test.composition @ fit.mean
        found[name] = nll(residual, variance_of(fit, test.composition))
    return found


def forces(train: Labels, test: Labels) -> dict[str, np.ndarray]:
    table = AtomicTable()
    table.update(train.number, train.forces, structure_index=train.index)
    fit = fit_forces(table)
    labels = table.number("components")
    own = (table.squares + 30 * fit.pooled_scale**2) / (labels + 30)
    label = test.forces
    # What symmetry sets to zero is no draw from any of these.
    used = np.abs(label) > 1e-6 * fit.pooled_scale
    squares = {
        "one η": np.full(119, fit.pooled_scale**2),
        "10 atoms": own,
        "adapt": fit.scale**2,
    }
    return {
        name: nll(label, square[test.number][:, None])[used]
        for name, square in squares.items()
    }


def virials(train: Labels, test: Labels) -> dict[str, np.ndarray]:
    kept, held = (np.isfinite(x.virial).all(axis=(1, 2)) for x in (train, test))
    n, m = train.composition[kept], test.composition[held]
    if min(len(n), len(m)) == 0:
        return {}
    pressure, square = split_virial(train.virial[kept])
    # One scale: p√3 and the five components of D alike, none of them centred.
    together = (3 * pressure**2 + 5 * square) / 6
    tables = [table_of(n, values) for values in (pressure, square, together)]
    found = {}
    p, d = split_virial(test.virial[held])
    one = fit_virial(tables[0], tables[2]).deviator
    auto = FitOptions(size_law="auto")
    for name, fit in {
        "one τ": one,
        "one τ, κ": fit_virial(tables[0], tables[2], auto).deviator,
    }.items():
        s2 = variance_of(fit, m)
        # The density of p itself, not of p√3.
        loss = nll(np.sqrt(3) * p, s2) - 0.5 * np.log(3)
        found[name] = loss + 2.5 * (np.log(2 * np.pi * s2) + d / s2)
    for name, options in {"two": FitOptions(), "two, κ": auto}.items():
        fit = fit_virial(tables[0], tables[1], options)
        s2 = variance_of(fit.deviator, m)
        loss = nll(p - m @ fit.pressure.mean, variance_of(fit.pressure, m))
        found[name] = loss + 2.5 * (np.log(2 * np.pi * s2) + d / s2)
    return found


PARTS = {"energies": energies, "force components": forces, "virials": virials}


def recovered(structures: int, strength: float, draws: int = 10) -> np.ndarray:
    """Return the median σ fitted to mixtures of a quiet and a loud element."""
    options, found = FitOptions(prior_strength=strength), []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        n = np.zeros((structures, 119))
        n[:, [1, 2]] = rng.multinomial(1, [0.5] * 2, (structures, 9)).cumsum(axis=1)[
            np.arange(structures), rng.integers(3, 9, structures)
        ]
        e = rng.normal(size=structures) * np.sqrt(n[:, [1, 2]] @ np.square(TRUE))
        fit = fit_energy(table_of(n, e), options)
        found.append(np.sqrt(fit.variance[[1, 2]]))
    return np.median(found, axis=0)


def recovery() -> tuple[list[str], list[list[str]]]:
    """Return a table of what the prior does to a quiet element."""
    columns = ["structures", *(f"ν₀ = {strength:g}" for strength in STRENGTHS)]
    rows = []
    for structures in (60, 300, 1000, 10_000):
        pairs = [recovered(structures, strength) for strength in STRENGTHS]
        cells = [f"{quiet:.3f}, {loud:.2f}" for quiet, loud in pairs]
        rows.append([str(structures), *cells])
    return columns, rows


def show(title: str, columns: list[str], rows: list[list[str]], markdown: bool) -> None:
    if markdown:
        lines = [columns, ["---"] * len(columns), *rows]
        print(f"\n{title}\n")
        print("\n".join("| " + " | ".join(line) + " |" for line in lines))
        return
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=118).print(table)


def compare(part, labels: Labels, seeds: int) -> dict[str, float]:
    """Return the mean over all folds of all seeds."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        for train, test in folds(labels, seed):
            for name, losses in part(train, test).items():
                found.setdefault(name, []).append(losses)
    return {name: float(np.concatenate(x).mean()) for name, x in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    parser.add_argument("--seeds", type=int, default=1, help="of the folds")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    data = {name: read(name) for name in arguments.sets or SETS}
    for title, part in PARTS.items():
        rows = {}
        for name, labels in data.items():
            if labels is not None and (row := compare(part, labels, arguments.seeds)):
                rows[name] = row
        columns = ["set", *next(iter(rows.values()))]
        cells = [
            [f"`{name}`", *(f"{x:.2f}" for x in row.values())]
            for name, row in rows.items()
        ]
        show(f"held-out NLL, {title}", columns, cells, arguments.markdown)
    title = "median σ, true 0.05 and 1, of mixtures of 4 to 9 atoms, ten draws"
    show(title, *recovery(), arguments.markdown)


if __name__ == "__main__":
    main()
