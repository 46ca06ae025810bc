"""From columns to padded ``tf.data`` batches, inside the TensorFlow graph."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data.folder import COLUMNS
from tfpes.data.plan import Plan
from tfpes.targets import Tensor, atom_target, composition, structure_target

_LABELS = ("energy", "forces", "virial")
# Windows that are made at a time.
_PARALLEL = min(os.cpu_count() or 1, 8)
_Load = Callable[[NDArray], dict[str, NDArray]]
"""From structures to their columns in memory."""


def padding_values(cutoff: float) -> dict[str, Any]:
    """Return the geometry of padding, which adds nothing to anything.

    The padding structure comes last and is a cube that is larger than the cutoff.
    Padding edges join the last atom, which is always one of padding, to its periodic
    image in the next cube.

    Args:
        cutoff: Å.

    Returns:
        Values of a padding atom, structure and edge, by the name of the input.
    """
    return {
        "positions": 0.0,
        "atomic_numbers": 0,
        "cell": 2.0 * cutoff * np.eye(3),
        "edge_shift": 1,
    }


def pad(values: NDArray, last: Any, count: int) -> NDArray:
    """Append rows that are all the same."""
    rows = np.full((count, *values.shape[1:]), last, values.dtype)
    return np.concatenate([values, rows])


def batches(
    load: _Load,
    cutoff: float,
    plan: Plan,
    labels: Sequence[str],
    weighted: bool,
    epoch: tf.Variable | None = None,
    guard: Callable[[], None] | None = None,
) -> tf.data.Dataset:
    """Build the dataset of :meth:`tfpes.data.Structures.batches`.

    Args:
        load: returns the columns of structures in memory.
        cutoff: radius of the neighbour lists, Å.
        plan: which structures share a batch, and the shapes.
        labels: keys of the targets.
        weighted: whether there are weights.
        epoch: tells which one to draw; by default, iterations are counted.
        guard: is called at the start of each iteration, and may raise.

    Raises:
        ValueError: for an unknown label.
    """
    if not set(labels) <= set(_LABELS):
        raise ValueError(
            f"`labels` must be among {_LABELS}. Received: {tuple(labels)}."
        )
    assembler = _Assembler(cutoff, plan, tuple(labels), weighted)
    one = plan.num_windows == 1
    # Eager tensors are captured by reference: no copy for each traced function.
    whole = assembler.arrays(load, plan.deal(0)[2][0]) if one else ()
    whole = tuple(map(tf.constant, whole))

    # Only what happens once in a window is done in NumPy; batches are assembled in the
    # graph.
    def window(*drawn: Any) -> tuple[NDArray, ...]:
        members, grouping, shapes = plan.draw(*drawn)
        return grouping, shapes, *(() if one else assembler.arrays(load, members))

    def draw(*drawn: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = tf.numpy_function(window, drawn, [spec.dtype for spec in specs])
        return tuple(map(tf.ensure_shape, found, [spec.shape for spec in specs]))

    def assemble(
        grouping: tf.Tensor, shapes: tf.Tensor, *columns: tf.Tensor
    ) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((grouping, shapes))
        return rows.map(functools.partial(assembler.assemble, columns or whole))

    width = plan.num_structures - 1
    numbers = [tf.TensorSpec([None, size], tf.int64) for size in (width, 2)]
    specs = [*numbers, *(() if one else assembler.specs)]
    arguments = [] if epoch is None else [epoch]

    def guarded(*drawn: Any) -> tuple[NDArray, ...]:
        if guard is not None:
            guard()
        return plan.deal(*drawn)

    def deal(_: tf.Tensor) -> tuple[tf.Tensor, ...]:
        found = tf.numpy_function(guarded, arguments, [tf.int64] * 3)
        return tuple(map(tf.ensure_shape, found, [[None], [None], [None, None]]))

    dataset = tf.data.Dataset.range(1).map(deal).unbatch()
    # Several windows at a time: where edges are to be found, that takes longest.
    dataset = dataset.map(draw, num_parallel_calls=None if one else _PARALLEL)
    # One batch after the other: a step takes ten times as long, and needs the cores.
    dataset = dataset.flat_map(assemble)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(plan.num_batches))
    # Nothing is left to tune, and the thread that would do it sleeps: where it misses
    # its wake-up at the end of an epoch, the next one begins up to a minute later.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(4).with_options(options)


class _Assembler:
    """The graph that assembles a batch from columns in memory.

    Each column ends with one row of padding: its atom, its edge and its structure.
    A batch is then nothing but rows picked from columns.
    """

    def __init__(
        self, cutoff: float, plan: Plan, labels: tuple[str, ...], weighted: bool
    ) -> None:
        self.labels = labels
        self.weighted = weighted and bool(labels)
        # One shape is known to all that follows.
        fixed = plan.num_windows == len(plan.shapes) == 1
        self.shape = plan.shapes[0].tolist() if fixed else None
        self.num_structures = plan.num_structures
        self.last = {
            **padding_values(cutoff),
            "edge_index": 0,
            **dict.fromkeys(_LABELS, np.nan),
            "weight": 0.0,
            "atom_offsets": None,
            "edge_offsets": None,
        }
        self.specs = [
            tf.TensorSpec([None, *shape], dtype)
            for dtype, _, shape in (COLUMNS[name] for name in self.last)
        ]

    def arrays(self, load: _Load, picked: NDArray) -> list[NDArray]:
        """Return the columns of structures, each with a row of padding."""
        columns = load(picked)
        columns["edge_index"] = columns["edge_index"].T
        return [
            pad(values, values[-1] if last is None else last, 1)
            for name, last in self.last.items()
            for values in [columns[name]]
        ]

    def assemble(
        self, columns: Sequence[tf.Tensor], picked: tf.Tensor, shape: tf.Tensor
    ) -> tuple[dict[str, Tensor], ...]:
        """Gather the picked structures and pad them to a shape."""
        data = dict(zip(self.last, columns, strict=True))
        nothing = tf.shape(data["energy"], picked.dtype)[0] - 1
        picked = tf.where(picked < 0, nothing, picked)
        missing = self.num_structures - picked.shape[0]
        picked = tf.pad(picked, [[0, missing]], constant_values=nothing)
        atom_counts = _lengths(data["atom_offsets"], picked)
        edge_counts = _lengths(data["edge_offsets"], picked)
        num_atoms, num_edges = self.shape or tf.unstack(tf.cast(shape, tf.int32))
        structure_index, atoms = _rows(
            data["atom_offsets"], picked, atom_counts, num_atoms
        )
        edge_structure, edges = _rows(
            data["edge_offsets"], picked, edge_counts, num_edges
        )
        # Padding edges are those of the last structure; they end at the last atom.
        first_atom = tf.concat(
            [tf.cumsum(atom_counts, exclusive=True)[:-1], [num_atoms - 1]], axis=0
        )
        edge_index = tf.gather(data["edge_index"], edges)
        edge_index += tf.gather(first_atom, edge_structure)[:, None]
        atomic_numbers = tf.gather(data["atomic_numbers"], atoms)
        inputs = {
            "positions": tf.gather(data["positions"], atoms),
            "atomic_numbers": atomic_numbers,
            "structure_index": structure_index,
            "cell": tf.gather(data["cell"], picked),
            "edge_index": tf.transpose(edge_index),
            "edge_shift": tf.cast(tf.gather(data["edge_shift"], edges), tf.float32),
        }
        counts = composition(atomic_numbers, structure_index, self.num_structures)
        targets = {}
        for label in self.labels:
            if label == "forces":
                forces = tf.gather(data["forces"], atoms)
                targets[label] = atom_target(forces, atomic_numbers, structure_index)
            else:
                targets[label] = structure_target(
                    tf.gather(data[label], picked), counts
                )
        if not self.weighted:
            return inputs, targets
        weight = tf.gather(data["weight"], picked)
        by_atom = tf.cast(tf.gather(weight, structure_index), tf.float32)
        weights = {k: by_atom if k == "forces" else weight for k in self.labels}
        return inputs, targets, weights


def _lengths(offsets: tf.Tensor, picked: tf.Tensor) -> tf.Tensor:
    """Return how many rows each of the picked structures has, int32."""
    lengths = tf.gather(offsets, picked + 1) - tf.gather(offsets, picked)
    return tf.cast(lengths, tf.int32)


def _rows(
    offsets: tf.Tensor, picked: tf.Tensor, lengths: tf.Tensor, size: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenate ``range(offsets[s], offsets[s + 1])`` of the picked structures.

    Returns:
        For each of ``size`` places the position of its structure among those picked,
        int32, and the row. Places that are left belong to the last structure, and
        their row is the last one, that of padding.
    """
    place = tf.range(size)
    ends = tf.cumsum(lengths)
    structure = tf.searchsorted(ends[:-1], place, side="right")
    jump = tf.gather(offsets, picked) - tf.cast(ends - lengths, offsets.dtype)
    row = tf.cast(place, offsets.dtype) + tf.gather(jump, structure)
    return structure, tf.minimum(row, offsets[-1])
