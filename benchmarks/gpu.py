"""What surrounds a training step, on the GPU or, without one, on the CPU.

    python benchmarks/gpu.py [--quick] [--json FILE] [SECTION ...]

Sections, all by default; each is measured in a process of its own:

- loop: time of a step on a resident batch, in `fit` with one and with several steps per
  execution, and in `tfpes train`; a tiny and the default network.
- sizes: time of a step on a resident batch of 8, 64 and 512 structures.
- memory: CPU time, page faults and peak memory with and without the allocator that the
  command chooses (on a CPU).
- start: nodes of a step, time to trace it and to compile it, without and with what an
  earlier process compiled.
- repeat: whether two runs with one seed are equal bit by bit.
- precision: energies and forces of the GPU against those of the CPU, and what
  TensorFloat-32 changes (on a GPU).
- collective: the sum over processes by NCCL as in `tfpes.distribute`, here of one
  process (on a GPU).

Data are embedded. Times are medians; ratios within a row were measured side by side.
"""

import argparse
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

SECTIONS = ("loop", "sizes", "memory", "start", "repeat", "precision", "collective")
ALLOCATOR = "TF_CPU_ALLOCATOR_USE_BFC"
NETWORKS = {"SchNet 4 x 1": (4, 1), "SchNet 32 x 2": (32, 2)}


# -- in a process of its own --------------------------------------------------------


def potential(structures, network="SchNet", channels=32, blocks=2):
    import keras

    import tfpes
    from tfpes.training import Options
    from tfpes.training.potential import compile_potential

    norm = tfpes.layers.PESNormalization()
    norm.adapt(structures.batches(64), verbose=0)
    keras.utils.set_random_seed(0)
    network = getattr(tfpes.models, network)(5.0, channels, blocks)
    model = tfpes.models.Potential(network, norm)
    model.build()
    return model, lambda steps: compile_potential(model, Options(epochs=1), steps)


def load(name):
    import tfpes

    structures = tfpes.data.load(name)
    return structures[~structures.isolated_atoms]


def median(function, times):
    import numpy as np

    function()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def resident(model, batch, times):
    """Return the median time of a compiled step on a batch that is there, s."""
    import tensorflow as tf

    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, jit_compile=True)
    return median(lambda: step(batch)["loss"].numpy(), times)


def loop(quick):
    from tfpes.training import Options, train
    from tfpes.training.epoch_lines import EpochLines
    from tfpes.training.host_loop import steps_per_execution

    times = []
    begun = EpochLines.on_epoch_begin
    ended = EpochLines.on_train_batch_end

    def begin(self, epoch, logs=None):
        begun(self, epoch, logs)
        times.append([time.perf_counter()])

    def end(self, batch, logs=None):
        ended(self, batch, logs)
        times[-1].append(time.perf_counter())

    structures = load("molecules")
    batches = structures.batches(8, shuffle=True, seed=0)
    batch = next(iter(batches))
    rows = {}
    for name, (channels, blocks) in NETWORKS.items():
        if quick and channels > 4:
            continue
        model, compiled = potential(structures, channels=channels, blocks=blocks)
        several = steps_per_execution(model, structures, 8)
        row = {"steps per execution": several}
        for steps in (1, several):
            budget = compiled(steps)
            model.fit(batches, verbose=0, shuffle=False, callbacks=[budget])
            seconds = median(
                lambda model=model: model.fit(batches, verbose=0, shuffle=False), 3
            )
            row[f"fit, {'one' if steps == 1 else 'several'}"] = seconds / len(batches)
        row["resident"] = resident(model, batch, 100)
        times.clear()
        EpochLines.on_epoch_begin, EpochLines.on_train_batch_end = begin, end
        with tempfile.TemporaryDirectory() as folder:
            train(Options(data=("molecules",), epochs=4, channels=channels,
                          blocks=blocks, output=f"{folder}/run"))  # fmt: skip
        EpochLines.on_epoch_begin, EpochLines.on_train_batch_end = begun, ended
        steps = -(-len(train_part(structures)) // 8)
        # The first epoch compiles.
        row["tfpes train"] = sorted(t[-1] - t[0] for t in times[1:])[1] / steps
        row["resident again"] = resident(model, batch, 100)
        rows[name] = row
    return rows


def train_part(structures):
    return structures.split((0.8, 0.1, 0.1), 0, cover_elements=True)[0]


def sizes(quick):
    structures = load("molecules")
    model, compiled = potential(structures)
    compiled(1)
    rows = {}
    for size in (8, 64) if quick else (8, 64, 512):
        batch = next(iter(structures.batches(size, shuffle=True, seed=0)))
        edges = int(batch[0]["edge_index"].shape[1])
        seconds = resident(model, batch, 10 if quick else 50)
        rows[f"{size} structures"] = {"edges": edges, "resident": seconds}
    return rows


def memory(quick):
    """Measure in this process, with the allocator that it has."""
    import tensorflow as tf

    import tfpes

    structures = load("alloys")
    some = structures[: 64 if quick else 200]
    batch = next(iter(structures.batches(8, shuffle=True, seed=0)))
    batches = some.batches(8)

    def cost(function, times):
        function()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(times):
            function()
        after = resource.getrusage(resource.RUSAGE_SELF)
        system = after.ru_stime - before.ru_stime
        return {
            "CPU": (after.ru_utime - before.ru_utime + system) / times,
            "of which system": system / times,
            "page faults": (after.ru_minflt - before.ru_minflt) // times,
            "peak MB": after.ru_maxrss // 1024,
        }

    rows = {}
    for network in ("SchNet",) if quick else ("SchNet", "PaiNN"):
        model, compiled = potential(structures, network)
        compiled(1)
        model.optimizer.build(model.trainable_variables)
        step = tf.function(model.train_step, jit_compile=True)
        tasks = {
            "step": functools.partial(step, batch),
            "adapt": functools.partial(model.normalization.adapt, batches, verbose=0),
            "predict": functools.partial(model.predict, batches, verbose=0),
            "evaluate": functools.partial(tfpes.evaluate, model, some),
        }
        for name, task in tasks.items():
            rows[f"{network}, {name}"] = cost(task, 20 if name == "step" else 2)
    return rows


def start(quick):
    import tensorflow as tf

    structures = load("molecules")
    batch = next(iter(structures.batches(8, shuffle=True, seed=0)))
    rows = {}
    for network in ("SchNet",) if quick else ("SchNet", "PaiNN"):
        model, compiled = potential(structures, network, 64, 3)
        compiled(1)
        model.optimizer.build(model.trainable_variables)
        step = tf.function(model.train_step, jit_compile=True)
        clock = time.perf_counter()
        graph = step.get_concrete_function(batch).graph.as_graph_def()
        traced = time.perf_counter() - clock
        step(batch)["loss"].numpy()
        rows[f"{network} 64 x 3"] = {
            "nodes": len(graph.node)
            + sum(len(function.node_def) for function in graph.library.function),
            "trace": traced,
            "compile": time.perf_counter() - clock - traced,
        }
    return rows


def repeat(quick):
    import numpy as np

    structures = load("molecules")[:200]
    weights = []
    for _ in range(2):
        model, compiled = potential(structures, channels=8, blocks=1)
        compiled(4)
        batches = structures.batches(8, shuffle=True, seed=0)
        model.fit(batches, epochs=1 if quick else 4, verbose=0, shuffle=False)
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    return {
        "two runs, one seed": {
            "largest difference": abs(np.diff(weights, axis=0)).max()
        }
    }


def precision(quick):
    import numpy as np
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return {}
    structures = load("molecules")
    model, compiled = potential(structures)
    compiled(1)
    model.fit(structures.batches(8, shuffle=True), epochs=2, verbose=0, shuffle=False)
    inputs = next(iter(structures.batches(64)))[0]
    outputs = {}
    for name, device, rounded in (
        ("CPU", "CPU:0", False), ("GPU", "GPU:0", False), ("TF32", "GPU:0", True),
    ):  # fmt: skip
        tf.config.experimental.enable_tensor_float_32_execution(rounded)
        with tf.device(device):
            found = model({key: tf.identity(value) for key, value in inputs.items()})
        outputs[name] = {key: value.numpy() for key, value in found.items()}
    scale = np.sqrt((outputs["CPU"]["forces"] ** 2).mean())
    return {
        f"{name} against {other}": {
            "energies, largest relative": np.max(np.abs(
                outputs[name]["energy"] / outputs[other]["energy"] - 1)),
            "forces, RMS of theirs": np.sqrt(np.mean(
                (outputs[name]["forces"] - outputs[other]["forces"]) ** 2)) / scale,
        }
        for name, other in (("GPU", "CPU"), ("TF32", "GPU"))
    }  # fmt: skip


def collective(quick):
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return {}
    return summed("GPU:0", "nccl", 10 if quick else 100)


def summed(device, hint, times):
    """Return what the sums of vectors over one process take, and whether they hold."""
    import numpy as np
    import tensorflow as tf

    rows = {}
    # Gradients of a small network and of a large one.
    for key, size in enumerate((10_000, 10_000_000), 1):
        with tf.device(device):
            vector = tf.random.normal([size])

            @tf.function
            def total(vector=vector, key=key):
                return tf.raw_ops.CollectiveReduceV2(
                    input=vector, group_size=1, group_key=1, instance_key=key,
                    ordering_token=[], merge_op="Add", final_op="Id",
                    communication_hint=hint,
                )  # fmt: skip

            seconds = median(lambda total=total: total()[0].numpy(), times)
            difference = np.abs(total().numpy() - vector.numpy()).max()
        rows[f"{size} numbers"] = {"sum": seconds, "largest difference": difference}
    return rows


# -- all sections -------------------------------------------------------------------


def measure(section, quick, **environment):
    command = [sys.executable, __file__, "--in-process", section]
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])],
        capture_output=True, text=True, check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", ALLOCATOR: "1", **environment},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{section} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a minute or two")
    parser.add_argument("--json", type=pathlib.Path, help="file for all numbers")
    parser.add_argument("--in-process", choices=SECTIONS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_process:
        rows = globals()[arguments.in_process](arguments.quick)
        print(json.dumps(rows, default=float))
        return
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}; not {', '.join(unknown)}")

    from rich.console import Console
    from rich.table import Table

    from tfpes.training.host_loop import device_name

    console = Console(width=100)
    console.print(f"Device: {device_name()}")
    everything = {"device": device_name()}
    for section in arguments.sections or SECTIONS:
        quick = arguments.quick
        if section == "memory":
            results = {
                f"{name}, {how}": row
                for how, value in (("default", "0"), ("kept", "1"))
                for name, row in measure(section, quick, **{ALLOCATOR: value}).items()
            }
        elif section == "start":
            with tempfile.TemporaryDirectory() as folder:
                flags = f"--tf_xla_persistent_cache_directory={folder}"
                results = {
                    f"{name}, {how}": row
                    for how in ("first time", "second time")
                    for name, row in measure(section, quick, TF_XLA_FLAGS=flags).items()
                }
        else:
            results = measure(section, quick)
        everything[section] = results
        if not results:
            console.print(f"{section}: skipped, for want of a GPU.")
            continue
        columns = list(next(iter(results.values())))
        table = Table("", *columns, title=section)
        for name, row in results.items():
            table.add_row(name, *(shown(column, row[column]) for column in columns))
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


def shown(column, value):
    if column in ("trace", "compile"):
        return f"{value:.1f} s"
    if isinstance(value, float) and ("largest" in column or "RMS" in column):
        return f"{value:.2g}"
    if isinstance(value, float):
        return f"{1e3 * value:.2f} ms"
    return str(value)


if __name__ == "__main__":
    main()
