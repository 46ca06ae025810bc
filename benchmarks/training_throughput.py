"""Training steps: against peers, growth, input pipeline, floor, and profile.

    python benchmarks/training_throughput.py [PART ...] [--quick]
        [--peers-python PYTHON] [--kgcnn-python PYTHON]

Parts: peers growth pipeline floor profile; all by default. Everybody gets the same
batches of 8 structures of nbmotaw_mvl (from ../shared/data; the embedded alloys if it
is not there), 64 channels, 3 layers, 5 Å, two threads, Adam, and a loss of standardized
energies and forces. All run in processes of their own, in turns, because a machine is
never quiet; times are the least and the median over the turns. `--peers-python` has
graph-pes (`pip install graph-pes`), `--kgcnn-python` has kgcnn and Keras 3
(`pip install kgcnn dm-tree keras tensorflow`).
"""

import argparse
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from throughput import floor as machine
from throughput.contestant import Contestant
from throughput.ours import BASIS_SIZE, BATCH_SIZE, make_model, read, write_batches

console = Console(width=100)


def ours(name, *atoms):
    return Contestant(f"tfpes {name}", sys.executable, "ours.py", name, *atoms)


def peers(quick):
    """Real atoms per second; peak memory of each process before and after its steps.

    "times ours" is a peer's time over that of tfpes, best and median.
    """
    others = (
        ("graph-pes SchNet", arguments.peers_python, "graph_pes_steps.py"),
        ("kgcnn SchNet", arguments.kgcnn_python, "kgcnn_steps.py"),
        ("graph-pes PaiNN", arguments.peers_python, "graph_pes_steps.py"),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "batches.npz"
        write_batches(path)
        contestants = [ours(name) for name in BASIS_SIZE]
        for title, python, script in others:
            try:
                if python:
                    model = title.split()[1]
                    contestants.append(Contestant(title, python, script, model, path))
            except RuntimeError as error:
                console.print(f"  {error}")
        for _ in range(4 if quick else 12):
            for contestant in contestants:
                contestant.train(1 if quick else 2)
        for contestant in contestants:
            contestant.stop()
    show_peers(contestants)


def show_peers(contestants):
    table = Table("", "atoms/s, best", "median", "step, best, ms", "median",
                  "times ours", "memory, MB")  # fmt: skip
    reference = {}
    for contestant in contestants:
        name = contestant.title.split()[1]
        if contestant.title.startswith("tfpes"):
            atoms, reference[name] = contestant.about, contestant.times
        best, middle = np.min(contestant.times), np.median(contestant.times)
        mine = reference[name]
        table.add_row(
            contestant.title, f"{atoms / best:.0f}", f"{atoms / middle:.0f}",
            f"{1e3 * best:.1f}", f"{1e3 * middle:.1f}",
            "" if mine is contestant.times else
            f"{best / np.min(mine):.1f}, {middle / np.median(mine):.1f}",
            f"{contestant.before / 1024:.0f} → {contestant.memory / 1024:.0f}",
        )  # fmt: skip
    console.print(table)


def growth(quick):
    """Time and memory of a step against the size of the batch."""
    table = Table("", "atoms", "step, ms", "µs/atom", "memory of steps, MB",
                  "kB/atom")  # fmt: skip
    for name in BASIS_SIZE:
        for size in (100, 1000) if quick else (100, 300, 1000, 3000, 10_000):
            contestant = ours(name, size)
            for _ in range(3):
                contestant.train(max(1, 1000 // size))
            contestant.stop()
            atoms, best = contestant.about, min(contestant.times)
            used = contestant.memory - contestant.before
            table.add_row(
                name, f"{atoms:.0f}", f"{1e3 * best:.1f}", f"{1e6 * best / atoms:.1f}",
                f"{used / 1024:.0f}", f"{used / atoms:.1f}",
            )  # fmt: skip
    console.print(table)


def pipeline(quick):
    """Steps of `fit`: data assembled from memory against one batch again and again.

    Steps are timed from the first of an epoch to its last; what an epoch takes until
    its first step is done is shown beside.
    """

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.end = time.perf_counter()
            if batch == 0:
                self.first = self.end

    structures, normalization = read()
    for name in BASIS_SIZE:
        model = make_model(name, normalization)
        fresh = structures.batches(BATCH_SIZE, shuffle=True, seed=0)
        # Made in advance, and then only handed out.
        made = list(fresh)
        shapes = {x["edge_index"].shape[1] for x, _ in made}
        single = tf.data.Dataset.from_tensors(made[0]).repeat(len(made))
        sets = {"one batch": single, "from memory": fresh}
        if len(shapes) == 1:
            stacked = tf.nest.map_structure(lambda *x: tf.stack(x), *made)
            sets["made in advance"] = tf.data.Dataset.from_tensor_slices(stacked)
        times = {key: [] for key in sets}
        clock = Clock()
        for turn in range(4 if quick else 8):
            for key, dataset in sets.items():
                model.fit(dataset, epochs=1, shuffle=False, verbose=0,
                          callbacks=[clock])  # fmt: skip
                if turn:
                    step = (clock.end - clock.first) / (len(made) - 1)
                    times[key].append((step, clock.first - clock.begin))
        found = {
            key: np.stack([np.min(values, axis=0), np.median(values, axis=0)])
            for key, values in times.items()
        }
        one = found["one batch"][:, 0]
        for key, ((best, start), (middle, _)) in found.items():
            console.print(
                f"  {name} {key:16s} {1e3 * best:6.1f} ms a step (median "
                f"{1e3 * middle:.1f}); {best / one[0] - 1:+.1%} (median "
                f"{middle / one[1] - 1:+.1%}); first step after {1e3 * start:.0f} ms"
            )


def floor(quick):
    """A step's matrix products and memory traffic against the machine's own speed."""
    for line in machine.compare(10 if quick else 60):
        console.print(f"  {line}")


def profile(quick):
    """Where the time of a step goes, by kind of operation of the compiled program.

    Operations run on two threads at once: their times add up to more than the step.
    """
    for name in BASIS_SIZE:
        table = Table(name, "ms a step", "operations")
        for kind, milliseconds, count in machine.profile(name, 5 if quick else 30):
            table.add_row(kind, f"{milliseconds:.2f}", f"{count:.0f}")
        console.print(table)


PARTS = {part.__name__: part for part in (peers, growth, pipeline, floor, profile)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--peers-python", help="interpreter that has graph-pes")
    parser.add_argument("--kgcnn-python", help="interpreter that has kgcnn")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        console.print(f"[bold]{part}[/]: {PARTS[part].__doc__.strip()}")
        PARTS[part](arguments.quick)
