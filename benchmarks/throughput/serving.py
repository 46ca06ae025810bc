"""Trains when told to on standard input; needs nothing but NumPy."""

import json
import sys
import time

import numpy as np


def peak_memory():
    """Return the peak of the memory of this process, kB."""
    # Not `resource.getrusage`: its peak is that of the parent at first.
    with open("/proc/self/status") as status:
        return next(int(x.split()[1]) for x in status if x.startswith("VmHWM"))


def read_batches(path):
    """Return the batches that :func:`ours.write_batches` wrote: dicts of arrays."""
    with np.load(path) as data:
        return [
            {k.split("/")[1]: data[k] for k in data.files if k.startswith(f"{n}/")}
            for n in range(int(data["count"]))
        ]


def serve(step, batches, about=None):
    """Train on each batch once, and then as often as each line of input says.

    Args:
        step: trains on one of the batches.
        batches: to train on.
        about: sent first, with the memory before any training.
    """
    before = peak_memory()
    for batch in batches:
        step(batch)
    print("RESULT", json.dumps([before, about]), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            for batch in batches:
                step(batch)
        seconds = (time.perf_counter() - start) / (int(line) * len(batches))
        print("RESULT", json.dumps([seconds, peak_memory()]), flush=True)
