"""From columns to padded ``tf.data`` batches, inside the TensorFlow graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data.packing import Plan
from tfpes.targets import Tensor, atom_target, composition, structure_target

_LABELS = ("energy", "forces", "virial")


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
    columns: Mapping[str, NDArray],
    cutoff: float,
    plan: Plan,
    labels: Sequence[str],
    epoch: tf.Variable | None = None,
) -> tf.data.Dataset:
    """Build the dataset of :meth:`tfpes.data.Structures.batches`.

    Args:
        columns: the arrays of :class:`tfpes.data.Structures` by name.
        cutoff: radius of the neighbour lists, Å.
        plan: which structures share a batch, and the shapes.
        labels: keys of the targets.
        epoch: tells which one to draw; by default, iterations are counted.

    Raises:
        ValueError: for an unknown label.
    """
    if not set(labels) <= set(_LABELS):
        raise ValueError(
            f"`labels` must be among {_LABELS}. Received: {tuple(labels)}."
        )
    assembler = _Assembler(columns, cutoff, plan, tuple(labels))
    if plan.shuffle:
        # Only the grouping, once an epoch, is drawn in NumPy; the batches are
        # assembled in the graph.
        arguments = [] if epoch is None else [epoch]
        grouping = tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(
                tf.numpy_function(plan.draw, arguments, tf.int64, stateful=True),
                plan.fixed.shape,
            )
        )
    else:
        grouping = tf.data.Dataset.from_tensors(plan.fixed)
    # One batch after the other: a step takes ten times as long, and needs the cores.
    dataset = grouping.unbatch().map(assembler.assemble)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(plan.fixed)))
    # Nothing is left to tune, and the thread that would do it sleeps: where it misses
    # its wake-up at the end of an epoch, the next one begins up to a minute later.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(4).with_options(options)


class _Assembler:
    """The columns as tensors, and the graph that assembles a batch from them.

    Each column ends with one row of padding: its atom, its edge and its structure.
    A batch is then nothing but rows picked from columns.
    """

    def __init__(
        self,
        columns: Mapping[str, NDArray],
        cutoff: float,
        plan: Plan,
        labels: tuple[str, ...],
    ) -> None:
        self.labels = labels
        self.weighted = bool(labels) and bool(np.any(columns["weight"] != 1))
        self.shapes = plan.shapes
        self.num_structures = plan.num_structures
        self.padding_structure = len(columns["energy"])
        last = {
            **padding_values(cutoff),
            "edge_index": 0,
            **dict.fromkeys(_LABELS, np.nan),
            "weight": 0.0,
        }
        for name in ("atom_offsets", "edge_offsets"):
            last[name] = columns[name][-1]
        rows = {**columns, "edge_index": columns["edge_index"].T}
        # Eager tensors are captured by reference: no copy for each traced function.
        self.columns = {
            name: tf.constant(pad(rows[name], value, 1)) for name, value in last.items()
        }

    def assemble(self, picked: tf.Tensor) -> tuple[dict[str, Tensor], ...]:
        """Gather the picked structures and pad them to the first shape that fits."""
        data = self.columns
        nothing = tf.constant(self.padding_structure, picked.dtype)
        picked = tf.where(picked < 0, nothing, picked)
        missing = self.num_structures - picked.shape[0]
        picked = tf.pad(picked, [[0, missing]], constant_values=nothing)
        atom_counts = _lengths(data["atom_offsets"], picked)
        edge_counts = _lengths(data["edge_offsets"], picked)
        num_atoms, num_edges = self._shape(
            tf.reduce_sum(atom_counts), tf.reduce_sum(edge_counts)
        )
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

    def _shape(self, atoms: tf.Tensor, edges: tf.Tensor) -> tuple[Any, Any]:
        """Return the padded sizes; integers if there is only one shape."""
        if len(self.shapes) == 1:
            max_atoms, max_edges = self.shapes[0].tolist()
            return max_atoms, max_edges
        shapes = tf.constant(self.shapes, tf.int32)
        fits = tf.reduce_all(shapes >= tf.stack([atoms + 1, edges]), axis=1)
        size = shapes[tf.argmax(tf.cast(fits, tf.int32))]
        return size[0], size[1]


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
