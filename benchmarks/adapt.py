"""The statistics behind `adapt`: exactness, speed, size law, and a peer.

    python benchmarks/adapt.py [PART ...] [--quick] [--peers-python PYTHON]

Parts: reference optimum safety speed million auto kappa sets robust peers; all by
default.
Sets that are not in ../shared/data are left out. `peers` compares with graph-pes, run
by the interpreter that has it (`pip install 'tfpes[peers]'`, or one of another
environment).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from fractions import Fraction

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import tfpes
from tfpes.evaluation import compositions
from tfpes.layers import PESNormalization
from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_energy,
    fit_forces,
)
from tfpes.statistics.fit import energy
from tfpes.statistics.fit.laws import _COLLECTIVE_FLOOR
from tfpes.statistics.fit.variance import FLOOR
from tfpes.targets import structure_target

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
SETS = ("nbmotaw_mvl", "mlearn6", "mptrj_random_1k", "acac_botnet")
console = Console(width=118)


# -- data -----------------------------------------------------------------------------


def dense(*rows):
    array = np.zeros((len(rows), 119))
    for row, composition in zip(array, rows, strict=True):
        row[list(composition)] = list(composition.values())
    return array


def filled(composition, energies, isolated=None):
    table = CompositionTable()
    if isolated is None:
        isolated = np.zeros(len(composition), bool)
    table.update(composition, energies, None, isolated)
    return table


def simulated(rng, structures, elements, kappa=0.0):
    """Draw (composition, energies): up to 4 elements, 1 to 60 atoms."""
    composition = np.zeros((structures, 119))
    for row in composition:
        number = rng.integers(1, min(4, elements) + 1)
        chosen = rng.choice(elements, number, replace=False)
        size = np.exp(rng.uniform(0, np.log(60)))
        share = rng.dirichlet(np.ones(number))
        row[chosen + 1] = np.maximum(1, np.round(share * size))
    return composition, drawn(rng, composition, rng.normal(size=structures), kappa)


def drawn(rng, composition, noise, kappa=0.0):
    """Draw energies of any mean and spread of the elements, with given noise."""
    mean, deviation = rng.normal(-5, 3, 119), rng.uniform(0.1, 1.0, 119)
    size = composition.sum(axis=1)
    spread = np.sqrt(composition @ deviation**2 + (kappa * size) ** 2)
    return composition @ mean + spread * noise


def organic(rng, structures):
    """Draw molecules of 3 to 60 atoms: most of H and C, few of N, O, rarely S."""
    size = np.clip(np.round(rng.lognormal(2.7, 0.5, structures)), 3, 60).astype(int)
    composition = np.zeros((structures, 119))
    shares = [0.52, 0.35, 0.05, 0.07, 0.01]
    composition[:, [1, 6, 7, 8, 16]] = rng.multinomial(size, shares)
    return composition, drawn(rng, composition, rng.normal(size=structures))


def cells(rng, structures):
    """Draw frames of 12 binary cells and of their 8- and 27-fold supercells."""
    motif = np.zeros((12, 119))
    for row in motif:
        row[rng.choice(6, 2, replace=False) + 22] = rng.integers(1, 4, 2)
    copies = rng.choice([1, 8, 27], structures, p=[0.5, 0.3, 0.2])
    composition = motif[rng.integers(0, 12, structures)] * copies[:, None]
    return composition, drawn(rng, composition, rng.normal(size=structures))


def heavy_tailed(rng, structures):
    """Draw as `simulated`, 4 elements, with noise of Student's t, 5 degrees."""
    composition, _ = simulated(rng, structures, 4)
    noise = rng.standard_t(5, structures) * np.sqrt(3 / 5)
    return composition, drawn(rng, composition, noise)


def sets():
    """Yield (name, composition, energies, isolated) of the sets that are there."""
    for name, structures in structure_sets():
        isolated = structures.isolated_atoms
        yield name, compositions(structures), structures.energy, isolated


def structure_sets():
    """Yield (name, structures) of the sets that are there."""
    for name in (*SETS, "alloys", "molecules"):
        if name in SETS:
            path = SHARED / f"{name}.xyz"
            if not path.exists():
                console.print(f"{path.name} is not in {SHARED}: left out")
                continue
            structures = tfpes.data.read(path, 5.0, verbose=False)
        else:
            structures = tfpes.data.load(name)
        yield name, structures


def best_of(repeat, *functions):
    """Return the least time of each; in turns, so that all see the same machine."""
    times = np.full(len(functions), np.inf)
    for _ in range(repeat):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            times[i] = min(times[i], time.perf_counter() - start)
    return times


# -- parts ----------------------------------------------------------------------------


def reference(quick):
    """Cases with known answers; the greatest relative error of mean and variance."""
    water = dense(*[{1: 2, 8: 1}] * 4)
    clusters = dense(*({1: 2 * n, 8: n} for n in (1, 2, 3, 4)))
    copper = dense(*({29: n} for n in (1, 2, 3, 6)))
    linear = dense({3: 1}, {4: 1}, {3: 1, 4: 2}, {3: 3, 4: 1})
    third = Fraction(1, 45)
    cases = [
        ("one element", copper, [-1.1, -1.8, -3.3, -5.8], [29], [-1], [third]),
        ("4 H2O", water, [-14.1, -14.3, -13.9, -14.5], [1, 8],
         [Fraction(-71, 15)] * 2, [third] * 2),
        ("(H2O)n", clusters, [-14.1, -28.6, -42.3, -56.8], [1, 8],
         [Fraction(-709, 150)] * 2, [Fraction(28, 4500)] * 2),
        ("linear", linear, [-3, -5, -13, -14], [3, 4], [-3, -5], [1, 1]),
        ("one structure", water[:1], [-14.1], [1, 8], [Fraction(-47, 10)] * 2, [1, 1]),
    ]  # fmt: skip
    for name, composition, energies, elements, mean, variance in cases:
        fit = fit_energy(
            filled(composition, energies), FitOptions(isolated_atoms="include")
        )
        found = np.concatenate([fit.mean[elements], fit.variance[elements]])
        expected = np.array([float(x) for x in (*mean, *variance)])
        error = np.max(np.abs(found / expected - 1))
        console.print(f"  {name:18s} {error:.1e}")
    nothing = np.full(119, np.nan)
    likelihood = energy._fit(
        filled(copper, [-1.1, -1.8, -3.3, -5.8]).rows(),
        FitOptions(prior_strength=0),
        energy._Known(nothing, nothing, None, nothing),
        restricted=False,
    )
    error = abs(60 * likelihood.variance[29] - 1)
    console.print(f"  maximum likelihood {error:.1e}")
    molecules = dense({1: 2, 8: 1}, {1: 4, 6: 1}, {7: 2})
    fit = fit_energy(filled(molecules, [110, 130, 200]))
    error = np.max(np.abs(molecules @ fit.mean / [110, 130, 200] - 1))
    console.print(f"  three molecules    {error:.1e}, rank {fit.rank} of 4")
    forces = AtomicTable()
    forces.update([8, 1], [[1, 4, np.nan], [2, 3, np.nan]])
    scale = fit_forces(forces, FitOptions(prior_strength=0)).scale[[8, 1]]
    error = np.max(np.abs(scale / np.sqrt([17 / 2, 13 / 2]) - 1))
    console.print(f"  forces             {error:.1e}")
    rng = np.random.default_rng(1)
    composition = np.zeros((300, 119))
    composition[:, 26] = rng.integers(1000, 2500, 300)
    size = composition[:, 26]
    energies = -2500.3 * size + 0.1 * np.sqrt(size / 2500) * rng.normal(size=300)
    table = CompositionTable()
    for part in np.array_split(np.arange(300), 40):
        table.merge(filled(composition[part], energies[part]))
    n, e = [Fraction(int(x)) for x in size], [Fraction(float(x)) for x in energies]
    mu = sum(e) / sum(n)
    exact = sum((y - x * mu) ** 2 / x for x, y in zip(n, e, strict=True)) / 299
    error = abs(float(Fraction(float(fit_energy(table).variance[26])) / exact - 1))
    console.print(
        f"  E to {energies.min():.1e} eV, spread 0.1 eV, 40 tables merged: sigma² "
        f"{error:.1e}"
    )


def naive_objective(composition, energies, collective):
    """Return the objective of ln v (and kappa²), dense, and the scale of v."""
    n = composition[:, composition.any(axis=0)]
    size = n.sum(axis=1)
    root = np.sqrt(size)
    mu = np.linalg.lstsq(n / root[:, None], energies / root, rcond=None)[0]
    pooled = np.sum((energies - n @ mu) ** 2 / size) / (len(n) - n.shape[1])

    def function(x):
        v, kappa2 = np.exp(x[: n.shape[1]]), x[-1] if collective else 0.0
        s = n @ v + kappa2 * size**2
        gram = n.T @ (n / s[:, None])
        r = energies - n @ np.linalg.solve(gram, n.T @ (energies / s))
        a = v + size.mean() * kappa2
        return (
            np.sum(np.log(s) + r**2 / s)
            + np.linalg.slogdet(gram)[1]
            + 10 * np.sum(np.log(a) + pooled / a)
        )

    return function, pooled


def optimum(quick):
    """The objective, written naively, against ten searches of SciPy's L-BFGS-B."""
    rng = np.random.default_rng(0)
    for structures, elements, kappa in (
        (12, 2, 0.0), (40, 3, 0.3), (150, 5, 0.1), (60, 8, 0.0),
    ):  # fmt: skip
        composition, energies = simulated(rng, structures, elements, kappa)
        for law in ("independent", "collective"):
            collective = law == "collective"
            function, pooled = naive_objective(composition, energies, collective)
            fit = fit_energy(filled(composition, energies), FitOptions(size_law=law))
            ours = np.log(fit.variance[fit.seen])
            least = _COLLECTIVE_FLOOR if collective else FLOOR
            bounds = [tuple(np.log(pooled * np.array([least, 1e4])))] * ours.size
            if collective:
                ours = np.append(ours, fit.collective_variance)
                bounds.append((0.0, pooled * 1e4))
            found = []
            for _ in range(3 if quick else 10):
                start = np.log(pooled) + rng.normal(0, 1.5, len(bounds))
                if collective:
                    start[-1] = pooled * rng.uniform(0, 0.2)
                result = scipy.optimize.minimize(
                    function,
                    np.clip(start, *np.transpose(bounds)),
                    bounds=bounds,
                    method="L-BFGS-B",
                    options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
                )
                found.append(result.fun)
            best = function(ours)
            excess = (best - min(found)) / abs(best)
            console.print(
                f"  {structures:3d} structures of {elements} elements, {law:11s}: "
                f"{excess:+.1e} of the lowest that SciPy found"
            )


def safety(quick):
    """Variances at zero or not finite: on each set, its elements alone, and subsets."""
    rng = np.random.default_rng(0)
    problems = {"simulated": []}
    for n in [(30, 4), (300, 8)] * (10 if quick else 100):
        composition, energies = simulated(rng, *n, kappa=rng.choice([0.0, 0.05, 0.5]))
        problems["simulated"].append((composition, energies))
    for name, composition, energies, isolated in sets():
        n, e = composition[~isolated], energies[~isolated]
        mine = problems[name] = [(n, e)]
        for z in np.flatnonzero(n.any(axis=0)):
            # Structures of this element only, and all that hold it, as if it were.
            pure = (n[:, z] > 0) & (np.count_nonzero(n, axis=1) == 1)
            holds = n[:, z] > 0
            if pure.any():
                mine.append((n[pure], e[pure]))
            mine.append((n[holds] * (np.arange(119) == z), e[holds]))
        for number in (5, 20, 60):
            for _ in range(3 if quick else 20):
                chosen = rng.choice(len(e), number, replace=False)
                mine.append((n[chosen], e[chosen]))
    for name, data in problems.items():
        failures, least = 0, np.inf
        for composition, energies in data:
            for law in ("independent", "collective"):
                fit = fit_energy(
                    filled(composition, energies), FitOptions(size_law=law)
                )
                v = fit.variance[1:]
                numbers = [*v, *fit.mean, fit.collective_variance]
                safe = np.isfinite(numbers).all() and (v > 0).all() and fit.converged
                failures += not safe
                least = min(least, v.min() / fit.pooled_variance)
        console.print(
            f"  {name:16s} {failures} failures in {2 * len(data)} fits; least variance "
            f"{least:.1e} of the pooled one"
        )


def speed(quick):
    """`adapt` against Keras's on the forces alone, and against iterating."""
    batches, structures, atoms = 400, 64, 40
    rng = np.random.default_rng(0)
    numbers = rng.choice([1, 6, 7, 8, 16], size=(batches, structures, atoms))
    composition = (numbers[..., None] == [1, 6, 7, 8, 16]).sum(axis=2)
    counts = np.zeros((batches * structures, 119))
    counts[:, [1, 6, 7, 8, 16]] = composition.reshape(-1, 5)
    values = counts[:, [1, 6, 7, 8, 16]] @ [-13.5, -1030, -1485, -2040, -10830]
    energy = structure_target(values + rng.normal(size=values.size), counts).numpy()
    energy = energy.reshape(batches, structures, -1)
    forces = np.empty((batches, structures * atoms, 5), np.float32)
    forces[..., :3] = rng.normal(size=(batches, structures * atoms, 3))
    forces[..., 3] = numbers.reshape(batches, -1)
    forces[..., 4] = np.repeat(np.arange(structures), atoms)
    packed = tf.data.Dataset.from_tensor_slices({"energy": energy, "forces": forces})
    vectors = tf.data.Dataset.from_tensor_slices(forces[..., :3].copy())

    passes = 3

    def iterate():
        # About as long as the others: on a busy machine, short runs are luckier.
        for _ in range(passes):
            for _ in packed:
                pass

    layer, other = PESNormalization(), keras.layers.Normalization(dtype="float32")
    ours, theirs, bare = best_of(
        3 if quick else 15,
        lambda: layer.adapt(packed, verbose=0),
        lambda: other.adapt(vectors),
        iterate,
    )
    bare /= passes
    total = batches * structures
    for name, seconds in (
        ("adapt, energies and forces", ours),
        ("keras Normalization, forces", theirs),
        ("iterating, doing nothing", bare),
    ):
        console.print(f"  {name:28s} {total / seconds:9.0f} structures/s")
    console.print(
        f"  {theirs / ours:.2f} times as fast as Keras (1.5 wanted), "
        f"{ours / bare:.2f} times the bare iteration (4 allowed)"
    )


def million(quick):
    """Distinct compositions of 89 elements: time to gather, merge, solve; size."""
    number = 100_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    tables = table, other = CompositionTable(), CompositionTable()  # two processes
    mean, variance = rng.normal(-5, 3, 90), rng.uniform(0.1, 1.0, 90)
    start = time.perf_counter()
    for batch in range(number // 10_000):
        composition = np.zeros((10_000, 119))
        rows = np.arange(10_000)[:, None]
        composition[rows, rng.integers(1, 90, (10_000, 4))] = rng.integers(
            1, 40, (10_000, 4)
        )
        n = composition[:, :90]
        energies = n @ mean + np.sqrt(n @ variance) * rng.normal(size=10_000)
        tables[batch % 2].update(composition, energies)
    for part in tables:
        part.rows()  # what waits is added up
    gathered = time.perf_counter()
    table.merge(other)
    distinct = len(table)
    merged = time.perf_counter()
    fit = fit_energy(table)
    solved = time.perf_counter()
    rows = table.rows()
    n = rows.composition
    arrays = (n.data, n.indices, n.indptr, *rows.moments())
    size = sum(array.nbytes for array in arrays)
    error = np.max(np.abs(fit.variance[1:90] / variance[1:] - 1))
    console.print(
        f"  {distinct} compositions, rank {fit.rank}: drawn and gathered in "
        f"{gathered - start:.1f} s, two halves merged in {merged - gathered:.1f} s,\n"
        f"  both laws solved in {solved - merged:.1f} s; table {size / 1e6:.0f} MB, "
        f"{size / distinct:.0f} bytes a composition; sigma² within {error:.1%}"
    )


def auto(quick):
    """The law that `auto` takes: on the sets, and on independent draws."""
    for name, composition, energies, isolated in sets():
        fit = fit_energy(
            filled(composition, energies, isolated), FitOptions(size_law="auto")
        )
        console.print(f"  {name:16s} {fit.size_law}")
    # Fresh seeds: the threshold was chosen on draws of `simulated` with others.
    draws, law = 20 if quick else 100, "independent"
    cases = [
        (f"{n} structures of {z} elements", lambda rng, n=n, z=z: simulated(rng, n, z))
        for n, z in ((60, 4), (400, 4), (100, 8), (1000, 20))
    ]
    for draw in (organic, cells, heavy_tailed):
        cases += [
            (
                f"{draw.__name__}, {n} structures",
                lambda rng, n=n, draw=draw: draw(rng, n),
            )
            for n in (100, 500)
        ]
    for case, (title, draw) in enumerate(cases):
        kept = 0
        for seed in range(draws):
            rng = np.random.default_rng([20260, case, seed])
            fit = fit_energy(filled(*draw(rng)), FitOptions(size_law="auto"))
            kept += fit.size_law == law
        console.print(f"  {title}, drawn independent: {kept} of {draws} called so")
    found = 0
    for seed in range(12):
        rng = np.random.default_rng([20262, seed])
        problem = filled(*simulated(rng, 600, 60, kappa=0.1))
        found += fit_energy(problem, FitOptions(size_law="auto")).size_law != law
    console.print(
        f"  600 structures of 60 elements, κ = 0.1 eV: found in {found} of 12"
    )


def kappa(quick):
    """kappa² found in data drawn with it, 500 structures of 4 elements."""
    draws = 15 if quick else 60
    for value in (0.1, 0.4):
        rng = np.random.default_rng(7)
        fits = [
            fit_energy(
                filled(*simulated(rng, 500, 4, value)),
                FitOptions(size_law="collective"),
            )
            for _ in range(draws)
        ]
        found = np.array([fit.collective_variance for fit in fits])
        error = np.array([fit.laws["collective"].collective_error for fit in fits])
        console.print(
            f"  kappa² {value**2:.3f} eV²: mean {found.mean():.4f}, spread "
            f"{found.std():.4f}, standard error reported {np.median(error):.4f}, "
            f"within 2 of them {np.mean(np.abs(found - value**2) < 2 * error):.0%}"
        )


def sets_table(quick):
    """What the sets say: the laws and the size exponent."""
    table = Table("set", "structures", "law", "κ [eV]", "pooled σ [eV]",
                  "ln L gain", "p", "mean E'²", "kurtosis")  # fmt: skip
    for name, composition, energies, isolated in sets():
        layer = PESNormalization(size_law="auto")
        # Isolated atoms are left out as `adapt` does where edges tell them.
        targets = structure_target(energies, composition).numpy()[~isolated]
        edges = {
            "edge_index": np.tile(np.arange(len(targets)), (2, 1)),
            "structure_index": np.arange(len(targets)),
        }
        layer.adapt((edges, {"energy": targets}))
        report = layer.report.as_dict()
        fit, moments = report["fit"], report["standardized_energy"]
        p, laws = moments["size_exponent"], fit["laws"]
        gain = (
            laws["collective"]["log_likelihood"] - laws["independent"]["log_likelihood"]
            if len(laws) == 2
            else None
        )
        table.add_row(
            name,
            str(report["structures"]["used"]),
            fit["size_law"],
            f"{fit['collective_deviation']:.3g}",
            f"{fit['pooled_deviation']:.3g}",
            "one size" if gain is None else f"{gain:.1f}",
            "-"
            if p is None
            else f"{p['exponent']:.2f} [{p['low']:.2f}, {p['high']:.2f}]",
            f"{moments['mean_square']:.2f}",
            f"{moments['kurtosis']:.1f}",
        )  # fmt: skip
    console.print(table)


def robust(quick):
    """What tails do to the scales: robust over plain ones, and where it is least."""
    table = Table("set", "1 % of atoms", "η", "least η", "s", "s_d", "s_p")
    for name, structures in structure_sets():
        labels = ["energy", "forces"]
        if np.isfinite(structures.virial).any():
            labels.append("virial")
        counts, scales = compositions(structures), []
        for robust in (False, True):
            layer = PESNormalization(size_law="auto", robust=robust)
            layer.adapt(structures.batches(64, labels=labels), verbose=0)
            scales.append([
                layer.force_scale.numpy()[layer.seen.numpy() > 0],
                layer.energy_scale(counts).numpy(),
                layer.virial_scale_of(counts).numpy(),
                layer.pressure_scale_of(counts).numpy(),
            ])  # fmt: skip
        share = layer.report.as_dict()["forces"]["largest_share"]
        eta, *others = (
            b / a for a, b in zip(*scales, strict=True) if a.any()
        )  # fmt: skip
        table.add_row(
            name, f"{share:.0%}", f"{np.median(eta):.2f}", f"{eta.min():.2f}",
            *(f"{np.median(ratio):.2f}" for ratio in others),
        )  # fmt: skip
    console.print(table)


GRAPH_PES = """
import json, sys, time, numpy as np, torch
from graph_pes.utils.shift_and_scale import guess_per_element_mean_and_var as guess
from graph_pes import AtomicGraph
from graph_pes.atomic_graph import to_batch
data = np.load(sys.argv[1])
results = []
for fold in range(5):
    n, e = data[f"n{fold}"], data[f"e{fold}"]
    graphs = [
        AtomicGraph(
            Z=torch.tensor(np.repeat(np.arange(119), row)),
            R=torch.zeros(int(row.sum()), 3), cell=torch.zeros(3, 3),
            neighbour_list=torch.zeros(2, 0, dtype=torch.long),
            neighbour_cell_offsets=torch.zeros(0, 3),
            properties={}, other={}, cutoff=1.0,
        )
        for row in n
    ]
    batch = to_batch(graphs)
    energies = torch.tensor(e, dtype=torch.float32)
    start = time.perf_counter()
    try:
        mean, variance = guess(energies, batch)
        answer = [{int(z): float(x) for z, x in d.items()} for d in (mean, variance)]
    except Exception as error:
        answer = repr(error)
    results.append([time.perf_counter() - start, answer])
print("RESULT", json.dumps(results))
"""


def folds(composition):
    """Assign each composition (each structure, if there are few) to one of five."""
    _, group = np.unique(composition, axis=0, return_inverse=True)
    group = group.ravel()
    if group.max() < 10:
        group = np.arange(len(composition))
    fold = np.random.default_rng(0).permutation(group.max() + 1) % 5
    return fold[group]


def gaussian_nll(residual, variance):
    return 0.5 * (np.log(2 * np.pi * variance) + residual**2 / variance)


def graph_pes(python, training):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "training.npz"
        arrays = {}
        for fold, (n, e) in enumerate(training):
            arrays |= {f"n{fold}": n.astype(int), f"e{fold}": e}
        np.savez(path, **arrays)
        done = subprocess.run(
            [python, "-W", "ignore", "-c", GRAPH_PES, str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    lines = [x for x in done.stdout.splitlines() if x.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(lines[0].removeprefix("RESULT "))


def peers(quick):
    """Held-out Gaussian NLL of an energy, five-fold by composition; time; failures."""
    python = arguments.peers_python or sys.executable
    probe = subprocess.run(
        [python, "-c", "import graph_pes"], capture_output=True, check=False
    )
    present = probe.returncode == 0
    if not present:
        console.print(
            f"  graph-pes cannot be imported by {python}: only ours. Install the extra "
            "`peers`, or name an interpreter that has it with --peers-python."
        )
    table = Table("set", "method", "mean NLL", "median NLL", "time [ms]",
                  "failed folds", "clipped at 0.01 eV²")  # fmt: skip
    for name, composition, energies, isolated in sets():
        n, e = composition[~isolated], energies[~isolated]
        fold = folds(n)
        splits, tests = [], []
        for number in range(5):
            train = fold != number
            known = n[train].any(axis=0)
            # Nothing is known of elements that no training structure has.
            test = ~train & ~n[:, ~known].any(axis=1)
            splits.append((n[train], e[train]))
            tests.append((n[test], e[test]))
        methods = {}
        for law in ("independent", "collective", "auto"):
            methods[f"tfpes, {law}"] = []
            for counts, values in splits:
                start = time.perf_counter()
                fit = fit_energy(filled(counts, values), FitOptions(size_law=law))
                seconds = time.perf_counter() - start
                numbers = fit.mean, fit.variance, fit.collective_variance
                methods[f"tfpes, {law}"].append((seconds, numbers))
        if present:
            methods["graph-pes"] = []
            for seconds, answer in graph_pes(python, splits):
                numbers = None
                if not isinstance(answer, str):
                    mean, variance = np.full((2, 119), np.nan)
                    for array, values in zip((mean, variance), answer, strict=True):
                        for z, value in values.items():
                            array[int(z)] = value
                    numbers = mean, variance, 0.0
                methods["graph-pes"].append((seconds, numbers))
        for method, fits in methods.items():
            losses, failed, clipped = [], 0, 0
            for (_, numbers), (counts, values) in zip(fits, tests, strict=True):
                if numbers is None:
                    failed += 1
                    continue
                mean, variance, kappa2 = numbers
                clipped += np.count_nonzero(np.isclose(variance, 0.01, rtol=1e-6))
                used = counts.any(axis=0)
                s2 = counts[:, used] @ variance[used]
                s2 = s2 + kappa2 * counts.sum(axis=1) ** 2
                residual = values - counts[:, used] @ mean[used]
                loss = gaussian_nll(residual, s2)
                failed += not np.isfinite(loss).all()
                losses.append(loss[np.isfinite(loss)])
            loss = np.concatenate([*losses, np.zeros(0)])
            table.add_row(
                name, method,
                f"{loss.mean():.3f}" if len(loss) else "-",
                f"{np.median(loss):.3f}" if len(loss) else "-",
                f"{1e3 * np.mean([seconds for seconds, _ in fits]):.1f}",
                str(failed), str(clipped) if method == "graph-pes" else "-",
            )  # fmt: skip
        table.add_section()
    console.print(table)


PARTS = {
    "reference": reference,
    "optimum": optimum,
    "safety": safety,
    "speed": speed,
    "million": million,
    "auto": auto,
    "kappa": kappa,
    "sets": sets_table,
    "robust": robust,
    "peers": peers,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer draws and batches")
    parser.add_argument("--peers-python", help="interpreter that has graph-pes")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        console.print(f"[bold]{part}[/]: {PARTS[part].__doc__}")
        PARTS[part](arguments.quick)
