"""Training steps: against peers, memory, growth, input pipeline, and the floor.

    python benchmarks/training_throughput.py [PART ...] [--quick]
        [--peers-python PYTHON] [--kgcnn-python PYTHON]

Parts: peers growth pipeline floor; all by default. Everybody gets the same batches of
8 structures of nbmotaw_mvl (from ../shared/data; the embedded alloys if it is not
there), 64 channels, 3 layers, 5 Å, two threads, Adam, and a loss of standardized
energies and forces. All run in processes of their own, in turns, because a machine is
never quiet; times are the least and the median over the turns. `--peers-python` has
graph-pes (`pip install graph-pes`), `--kgcnn-python` has kgcnn and Keras 3
(`pip install kgcnn dm-tree keras tensorflow`).
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
from rich.console import Console
from rich.table import Table

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "data"
CUTOFF, BATCH_SIZE, CHANNELS, BLOCKS = 5.0, 8, 64, 3
BASIS_SIZE = {"SchNet": 50, "PaiNN": 20}
THREADS = "2"
console = Console(width=100)

# -- contestants ----------------------------------------------------------------------

# Each script defines `prepare(name, batches)`, which returns `step(batch)`. A batch is
# a dict of arrays without padding; see `write_batches`.

SERVE = """
import json, sys, time
import numpy as np

def peak_memory():
    # Not `resource.getrusage`: its peak is that of the parent at first.
    with open("/proc/self/status") as status:
        return next(int(x.split()[1]) for x in status if x.startswith("VmHWM"))

name, path = sys.argv[1:3]
with np.load(path) as data:
    batches = [
        {k.split("/")[1]: data[k] for k in data.files if k.startswith(f"{n}/")}
        for n in range(int(data["count"]))
    ]
step = prepare(name, batches)
before = peak_memory()
for number in range(len(batches)):
    step(number)
print("RESULT", before, flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for repeat in range(int(line)):
        for number in range(len(batches)):
            step(number)
    seconds = (time.perf_counter() - start) / (int(line) * len(batches))
    print("RESULT", json.dumps([seconds, peak_memory()]), flush=True)
"""

GRAPH_PES = """
import torch
from graph_pes import AtomicGraph
from graph_pes.atomic_graph import to_batch
from graph_pes.models import PaiNN, SchNet
torch.set_num_threads(2)

def convert(b):
    graphs = []
    for s, cell in enumerate(b["cell"]):
        atoms = b["structure_index"] == s
        edges = atoms[b["edge_index"][0]]
        graphs.append(AtomicGraph(
            Z=torch.tensor(b["atomic_numbers"][atoms]).long(),
            R=torch.tensor(b["positions"][atoms]), cell=torch.tensor(cell),
            neighbour_list=torch.tensor(
                b["edge_index"][:, edges] - np.flatnonzero(atoms)[0]).long(),
            neighbour_cell_offsets=torch.tensor(b["edge_shift"][edges]),
            properties={}, other={}, cutoff=5.0))
    labels = {k: torch.tensor(b[k]).float()
              for k in ("energy", "energy_scale", "forces", "force_scale")}
    return graphs, to_batch(graphs), labels

def prepare(name, batches):
    torch.manual_seed(0)
    model = (SchNet(cutoff=5.0, channels=64, expansion_features=50, layers=3)
             if name == "SchNet" else
             PaiNN(cutoff=5.0, channels=64, radial_features=20, layers=3))
    data = [convert(b) for b in batches]
    model.pre_fit_all_components([g for graphs, _, _ in data for g in graphs])
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    def step(number):
        _, graph, label = data[number]
        optimizer.zero_grad()
        out = model.predict(graph, ["energy", "forces"])
        energy = (out["energy"] - label["energy"]) / label["energy_scale"]
        forces = (out["forces"] - label["forces"]) / label["force_scale"]
        loss = (energy ** 2).mean() + (forces ** 2).mean()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    return step
"""

KGCNN = """
import keras, tensorflow as tf
from kgcnn.literature.Schnet import make_crystal_model
from kgcnn.models.force import EnergyForceModel
tf.config.threading.set_intra_op_parallelism_threads(2)
NAMES = ("atomic_numbers", "positions", "edge_index", "edge_shift", "cell",
         "atoms", "edges")

def convert(b):
    count = len(b["cell"])
    edge_structure = b["structure_index"][b["edge_index"][0]]
    atoms = np.bincount(b["structure_index"], minlength=count)
    edges = np.bincount(edge_structure, minlength=count)
    first = np.concatenate([[0], np.cumsum(atoms)[:-1]])
    def pad(values, structure, sizes):
        out = np.zeros((count, sizes.max(), *values.shape[1:]), values.dtype)
        for s in range(count):
            out[s, : sizes[s]] = values[structure == s]
        return out
    local = (b["edge_index"] - first[edge_structure]).T.astype("int64")
    s = b["structure_index"]
    return tuple(tf.constant(x) for x in (
        pad(b["atomic_numbers"].astype("int64"), s, atoms),
        pad(b["positions"], s, atoms), pad(local, edge_structure, edges),
        pad(b["edge_shift"].astype("int64"), edge_structure, edges), b["cell"],
        atoms.astype("int64"), edges.astype("int64"))), tuple(
        tf.constant(x.astype("float32")) for x in (
        b["energy"] - b["baseline"], b["energy_scale"], pad(b["forces"], s, atoms),
        pad(b["force_scale"], s, atoms)))

def prepare(name, batches):
    keras.utils.set_random_seed(0)
    spp = {"class_name": "function", "config": "kgcnn>shifted_softplus"}
    energy = make_crystal_model(
        input_node_embedding={"input_dim": 119, "output_dim": 64},
        gauss_args={"bins": 50, "distance": 5, "offset": 0.0, "sigma": 0.1}, depth=3,
        interaction_args={"units": 64, "use_bias": True, "activation": spp,
                          "cfconv_pool": "scatter_sum"},
        node_pooling_args={"pooling_method": "scatter_sum"}, use_output_mlp=False,
        last_mlp={"use_bias": [True, True], "units": [32, 1],
                  "activation": [spp, "linear"]})
    model = EnergyForceModel(
        model_energy=energy, coordinate_input=1, output_squeeze_states=True,
        name="potential",
        outputs={"energy": {"name": "energy", "shape": (1,)},
                 "force": {"name": "force", "shape": (None, 3)}})
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(energy.trainable_variables)
    data = [convert(b) for b in batches]
    @tf.function(reduce_retracing=True)
    def train(inputs, labels):
        label, energy_scale, forces, force_scale = labels
        present = force_scale > 0
        with tf.GradientTape() as tape:
            out = model(inputs, training=True)
            error = (out["energy"][:, 0] - label) / energy_scale
            force = tf.math.divide_no_nan(out["force"] - forces, force_scale)
            loss = tf.reduce_mean(error**2) + tf.reduce_sum(force**2) / (
                tf.reduce_sum(tf.cast(present, "float32")))
        gradients = tape.gradient(loss, energy.trainable_variables)
        optimizer.apply_gradients(zip(gradients, energy.trainable_variables))
        return loss
    def step(number):
        assert np.isfinite(train(*data[number]).numpy())
    return step
"""


def make_model(name, normalization):
    """Return our potential, compiled."""
    import keras

    import tfpes

    keras.utils.set_random_seed(0)
    network = getattr(tfpes.models, name)(
        CUTOFF, CHANNELS, BLOCKS, basis_size=BASIS_SIZE[name]
    )
    model = tfpes.models.Potential(network, normalization)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss={
            "energy": tfpes.losses.EnergyLoss(normalization),
            "forces": tfpes.losses.ForceLoss(normalization),
        },
        jit_compile=True,
    )
    return model


def read():
    """Return the structures and their statistics."""
    import tfpes

    path = SHARED / "nbmotaw_mvl.xyz"
    if path.exists():
        structures = tfpes.data.read(path, CUTOFF, verbose=False)
    else:
        console.print(f"{path.name} is not in {SHARED}: the embedded alloys instead")
        structures = tfpes.data.load("alloys")
    structures = structures[~structures.isolated_atoms]
    normalization = tfpes.layers.PESNormalization()
    normalization.adapt(structures.batches(64), verbose=0)
    return structures, normalization


def serve_ours(name, atoms):
    """Run our steps as SERVE runs those of a peer, on batches as `fit` gets them."""
    import tensorflow as tf

    structures, normalization = read()
    if atoms is None:
        batches = list(structures.batches(BATCH_SIZE).take(8))
    else:
        size = int(np.median(structures.num_atoms))
        like = np.flatnonzero(structures.num_atoms == size)
        chosen = structures[np.resize(like, max(atoms // size, 1))]
        batches = list(chosen.batches(len(chosen)))
    model = make_model(name, normalization)
    before = peak_memory()
    # What `fit` compiles, without its callbacks, progress and metrics that start anew:
    # the peers' steps have none of these either.
    train = tf.function(model.train_step, jit_compile=True)

    def step(batch):
        if not np.isfinite(train(batch)["loss"]):
            raise FloatingPointError("The loss is not finite.")

    for batch in batches:
        step(batch)
    real = sum(np.count_nonzero(x["atomic_numbers"]) for x, _ in batches)
    print("RESULT", json.dumps([before, real / len(batches)]), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            for batch in batches:
                step(batch)
        seconds = (time.perf_counter() - start) / (int(line) * len(batches))
        print("RESULT", json.dumps([seconds, peak_memory()]), flush=True)


def peak_memory():
    # Not `resource.getrusage`: its peak is that of the parent at first.
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM"))


class Contestant:
    """A process that trains when told."""

    def __init__(self, title, command):
        """Start it, and wait until it has trained on each batch once."""
        self.title, self.times = title, []
        threads = {f"{k}_NUM_THREADS": THREADS for k in ("OMP", "MKL")}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, env={**os.environ, **threads, "KERAS_BACKEND": "tensorflow"},
        )  # fmt: skip
        self.before = self._answer()
        self.memory = 0

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{self.title} stopped: {last}")

    def train(self, repeats):
        """Train on all batches a number of times."""
        print(repeats, file=self.process.stdin, flush=True)
        seconds, self.memory = self._answer()
        self.times.append(seconds)

    def stop(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def ours(name, atoms=None):
    arguments = [] if atoms is None else ["--atoms", str(atoms)]
    return Contestant(
        f"tfpes {name}", [sys.executable, __file__, "--serve", name, *arguments]
    )


# -- parts ----------------------------------------------------------------------------


def write_batches(path):
    """Write the batches that `serve_ours` takes, without padding, and the scales."""
    structures, normalization = read()
    arrays = {"count": 8}
    for number, (x, y) in enumerate(structures.batches(BATCH_SIZE).take(8)):
        x, y = ({k: v.numpy() for k, v in d.items()} for d in (x, y))
        atoms, labelled = x["atomic_numbers"] > 0, ~np.isnan(y["energy"][:, 0])
        edges = atoms[x["edge_index"][0]]
        counts = y["energy"][labelled, 1:]
        numbers = x["atomic_numbers"][atoms]
        scale = normalization.force_scale.numpy()[numbers, None]
        batch = {
            "positions": x["positions"][atoms],
            "atomic_numbers": numbers,
            "structure_index": x["structure_index"][atoms],
            "cell": x["cell"][labelled],
            "edge_index": x["edge_index"][:, edges],
            "edge_shift": x["edge_shift"][edges],
            "energy": y["energy"][labelled, 0],
            "baseline": np.asarray(normalization.energy_baseline(counts)),
            "energy_scale": np.asarray(normalization.energy_scale(counts)),
            "forces": y["forces"][atoms, :3],
            "force_scale": np.repeat(scale, 3, axis=1).astype(np.float32),
        }
        arrays |= {f"{number}/{key}": value for key, value in batch.items()}
    np.savez(path, **arrays)


def peers(quick):
    """Real atoms per second; peak memory of each process before and after its steps.

    "times ours" is a peer's time over that of tfpes, best and median.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "batches.npz"
        write_batches(path)
        wanted = []
        for name in ("SchNet", "PaiNN"):
            wanted.append(lambda name=name: ours(name))
            for title, script, python, has in (
                ("graph-pes", GRAPH_PES, arguments.peers_python, ("SchNet", "PaiNN")),
                ("kgcnn", KGCNN, arguments.kgcnn_python, ("SchNet",)),
            ):
                if python and name in has:
                    command = [python, "-W", "ignore", "-c", script + SERVE, name]
                    wanted.append(
                        lambda title=title, command=command, name=name: Contestant(
                            f"{title} {name}", [*command, str(path)]
                        )
                    )
        contestants = []
        for start in wanted:
            try:
                contestants.append(start())
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
            before, atoms = contestant.before
            reference[name] = contestant.times
        else:
            before = contestant.before
        best, middle = np.min(contestant.times), np.median(contestant.times)
        mine = reference[name]
        table.add_row(
            contestant.title, f"{atoms / best:.0f}", f"{atoms / middle:.0f}",
            f"{1e3 * best:.1f}", f"{1e3 * middle:.1f}",
            "" if mine is contestant.times else
            f"{best / np.min(mine):.1f}, {middle / np.median(mine):.1f}",
            f"{before / 1024:.0f} → {contestant.memory / 1024:.0f}",
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
            before, atoms = contestant.before
            best, used = min(contestant.times), contestant.memory - before
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
    import keras
    import tensorflow as tf

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
        for turn in range(4 if quick else 12):
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


_SHAPE = re.compile(r"(f64|f32|s32|s64|u32|pred|f16|bf16)\[([\d,]*)\]")
_BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "f16": 2, "bf16": 2}


def count_operations(hlo):
    """Return (floating-point operations of matrix products, bytes written)."""
    shapes, flops, written, entry = {}, 0, 0, False
    for line in hlo.splitlines():
        entry = (entry or line.startswith("ENTRY")) and line != "}"
        found = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line)
        if not found:
            continue
        result = _SHAPE.findall(line[found.end() :].split("(", 1)[0])
        sizes = [np.prod([int(n) for n in d.split(",") if n]) for _, d in result]
        if len(result) == 1:
            shapes[found[1]] = [int(n) for n in result[0][1].split(",") if n]
        operation = re.search(r"\s([\w\-]+)\(", line[found.end() - 1 :])
        operation = operation[1] if operation else ""
        if operation == "dot":
            left = re.search(r"dot\((?:[\w\[\],{}]+ )?%?([\w.\-]+)", line)[1]
            axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line)[1]
            inner = np.prod([shapes[left][int(a)] for a in axes.split(",") if a])
            flops += 2 * sizes[0] * inner
        if entry and operation not in ("parameter", "bitcast", "tuple", "constant",
                                       "get-tuple-element"):  # fmt: skip
            written += sum(
                n * _BYTES.get(k, 1) for n, (k, _) in zip(sizes, result, strict=True)
            )
    return float(flops), float(written)


def floor(quick):
    """A step's matrix products and memory traffic against the machine's own speed."""
    import tensorflow as tf

    structures, normalization = read()
    batch = next(iter(structures.batches(BATCH_SIZE)))
    square = tf.random.normal((1536, 1536))
    product = tf.function(lambda x: tf.linalg.matmul(x, x)[0, 0], jit_compile=True)
    block = np.ones(2**25, np.float32)
    copy = np.empty_like(block)
    steps = {}
    for name in BASIS_SIZE:
        model = make_model(name, normalization)
        model.train_on_batch(*batch)
        step = tf.function(model.train_step, jit_compile=True)
        hlo = step.experimental_get_compiler_ir(batch)(stage="optimized_hlo")
        steps[name] = model, count_operations(hlo)
    actions = {
        "product": lambda: product(square).numpy(),
        "copy": lambda: np.copyto(copy, block),
        **{n: lambda m=m: m.train_on_batch(*batch) for n, (m, _) in steps.items()},
    }
    times = dict.fromkeys(actions, np.inf)
    for _ in range(10 if quick else 60):
        for key, action in actions.items():
            start = time.perf_counter()
            action()
            times[key] = min(times[key], time.perf_counter() - start)
    rate, bandwidth = 2 * 1536**3 / times["product"], 4 * 2**25 / times["copy"]
    console.print(
        f"  matrix product of 1536 × 1536: {rate / 1e9:.0f} GFLOP/s; NumPy writes "
        f"{bandwidth / 1e9:.1f} GB/s in a copy of 128 MB (one thread)"
    )
    for name, (_, (flops, written)) in steps.items():
        console.print(
            f"  {name}: {times[name] * 1e3:.1f} ms a step; {flops / 1e9:.2f} GFLOP in "
            f"matrix products (at the rate above {1e3 * flops / rate:.1f} ms), "
            f"{written / 1e6:.0f} MB written: the step reaches "
            f"{flops / times[name] / rate:.0%} of the matmul rate"
        )


PARTS = {"peers": peers, "growth": growth, "pipeline": pipeline, "floor": floor}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--peers-python", help="interpreter that has graph-pes")
    parser.add_argument("--kgcnn-python", help="interpreter that has kgcnn")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--atoms", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_ours(arguments.serve, arguments.atoms)
        sys.exit()
    unknown = sorted(set(arguments.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        console.print(f"[bold]{part}[/]: {PARTS[part].__doc__.strip()}")
        PARTS[part](arguments.quick)
