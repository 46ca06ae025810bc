"""Rates of a folder of structures: written, read, batched, beside a training step.

    python benchmarks/data.py FILE [--cutoff 5] [--number 20000] [--batch-size 16]

The structures of the file are tiled to the number, all rates are of the same run, in
structures a second; the two of a model are of SchNet with 32 channels and 2 blocks.
"""

import argparse
import itertools
import os
import pathlib
import resource
import tempfile
import time

import numpy as np

import tfpes


def rate(name, number, function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    seconds = time.perf_counter() - start
    print(f"{name:46s} {number / seconds:12.0f}", flush=True)
    return result


def size(folder):
    return sum(file.stat().st_size for file in os.scandir(folder))


def run_through(dataset, steps):
    for _ in dataset.take(steps):
        pass


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("file")
parser.add_argument("--cutoff", type=float, default=5.0)
parser.add_argument("--number", type=int, default=20_000)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--seconds", type=float, default=10.0, help="Of training.")
arguments = parser.parse_args()

structures = tfpes.data.read(arguments.file, arguments.cutoff, verbose=False)
number, batch_size = arguments.number, arguments.batch_size
tiled = np.arange(number) % len(structures)
with tempfile.TemporaryDirectory() as room:
    small = pathlib.Path(room, "small")
    structures.save(small)
    source = tfpes.data.open(small)[tiled]
    print(f"{source}\n\n{'':46s} {'structures/s':>12s}")
    folders = {}
    for edges in (False, True):
        words = "with edges" if edges else "without edges"
        path = pathlib.Path(room, words)
        rate(f"write {words}", number, source.save, path, edges)
        folders[edges] = opened = tfpes.data.open(path)
        rate(f"read one after the other, {words}", number, list, opened.blocks(edges))
        order = np.random.default_rng(0).permutation(number)[: 50 * len(structures)]
        batches = np.split(order, range(batch_size, len(order), batch_size))
        rate(
            f"read at random by {batch_size}, {words}",
            len(order),
            lambda: [opened.take(b, edges) for b in batches],  # noqa: B023
        )
        print(f"{'':4s}bytes a structure: {size(path) / number:.0f}")
    some = folders[False].take(np.arange(2000))
    rate("find edges, one thread", 2000, some.with_edges)
    # The first windows, so that no rate takes long.
    steps = min(2 * 1024, number) // batch_size
    for edges, opened in folders.items():
        dataset = opened.batches(batch_size, shuffle=True, seed=0)
        words = "stored" if edges else "found in the pipeline"
        rate(f"batches, edges {words}", steps * batch_size, run_through, dataset, steps)
        print(f"{'':4s}{opened.padding(batch_size, shuffle=True)}")
    norm = tfpes.layers.PESNormalization()
    norm.adapt(structures.batches(64))
    for edges, opened in folders.items():
        network = tfpes.models.SchNet(arguments.cutoff, channels=32, blocks=2)
        model = tfpes.models.Potential(network, norm)
        losses = {
            "energy": tfpes.losses.EnergyLoss(norm),
            "forces": tfpes.losses.ForceLoss(norm),
        }
        model.compile("adam", losses, jit_compile=True)
        dataset = opened.batches(batch_size, shuffle=True, seed=0)
        batch = next(iter(dataset))
        model.train_on_batch(*batch)
        if not edges:
            start, done = time.perf_counter(), 0
            while time.perf_counter() - start < arguments.seconds / 2:
                model.train_on_batch(*batch)
                done += batch_size
            alone = done / (time.perf_counter() - start)
            print(f"{'training step alone':46s} {alone:12.0f}", flush=True)
        start, done = time.perf_counter(), 0
        for step in itertools.islice(dataset, 10**6):
            model.train_on_batch(*step)
            done += batch_size
            if time.perf_counter() - start > arguments.seconds:
                break
        words = f"training, edges {'stored' if edges else 'found in the pipeline'}"
        print(f"{words:46s} {done / (time.perf_counter() - start):12.0f}", flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(f"\npeak memory: {peak:.2f} GB")
