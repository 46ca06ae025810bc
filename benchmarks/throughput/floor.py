"""Operations and bytes of a step, the machine's own speed, and where the time goes."""

import collections
import glob
import re
import tempfile
import time

import numpy as np
import tensorflow as tf

from throughput.ours import BASIS_SIZE, BATCH_SIZE, make_model, read

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


def compare(turns):
    """Yield lines: the machine's speed, and what steps reach of it."""
    structures, normalization = read()
    batch = next(iter(structures.batches(BATCH_SIZE)))
    square = tf.random.normal((1536, 1536))
    product = tf.function(lambda x: tf.linalg.matmul(x, x)[0, 0], jit_compile=True)
    block = np.ones(2**25, np.float32)
    copy = np.empty_like(block)
    steps = {}
    for name in BASIS_SIZE:
        step = tf.function(make_model(name, normalization).train_step, jit_compile=True)
        step(batch)
        hlo = step.experimental_get_compiler_ir(batch)(stage="optimized_hlo")
        steps[name] = step, count_operations(hlo)
    actions = {
        "product": lambda: product(square).numpy(),
        "copy": lambda: np.copyto(copy, block),
        **{n: lambda s=s: s(batch)["loss"].numpy() for n, (s, _) in steps.items()},
    }
    times = dict.fromkeys(actions, np.inf)
    for _ in range(turns):
        for key, action in actions.items():
            start = time.perf_counter()
            action()
            times[key] = min(times[key], time.perf_counter() - start)
    rate, bandwidth = 2 * 1536**3 / times["product"], 4 * 2**25 / times["copy"]
    yield (
        f"matrix product of 1536 × 1536: {rate / 1e9:.0f} GFLOP/s; NumPy writes "
        f"{bandwidth / 1e9:.1f} GB/s in a copy of 128 MB (one thread)"
    )
    for name, (_, (flops, written)) in steps.items():
        yield (
            f"{name}: {times[name] * 1e3:.1f} ms a step; {flops / 1e9:.2f} GFLOP in "
            f"matrix products (at the rate above {1e3 * flops / rate:.1f} ms), "
            f"{written / 1e6:.0f} MB written (at the speed of the copy "
            f"{1e3 * written / bandwidth:.1f} ms)"
        )


KINDS = {
    "matrix products": r"MatMul|Einsum|dot",
    "sums over edges (scatter)": r"scatter",
    "rows of tables and atoms (gather)": r"gather",
    "other sums": r"reduce",
    "element by element": r"fusion|multiply|add|copy|broadcast|transpose|concatenate",
}
"""Names of operations, the first that fits."""


def profile(name, steps):
    """Return (kind, milliseconds a step, operations a step) of one of our steps."""
    # A part of TensorFlow's own profiler plugin, which reads these files.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    structures, normalization = read()
    batch = next(iter(structures.batches(BATCH_SIZE)))
    step = tf.function(make_model(name, normalization).train_step, jit_compile=True)
    step(batch)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step(batch)
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        with open(path, "rb") as file:
            space = xplane_pb2.XSpace.FromString(file.read())
    times, counts = collections.Counter(), collections.Counter()
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                # Names like "multiply_add_fusion.12" are operations of the program.
                found = re.fullmatch(r"(\w+?)_?[.\d]*", names[event.metadata_id])
                kind = found and next(
                    (k for k, v in KINDS.items() if re.search(v, found[1])), None
                )
                if kind:
                    times[kind] += event.duration_ps * 1e-9 / steps
                    counts[kind] += 1 / steps
    return [(kind, value, counts[kind]) for kind, value in times.most_common()]
