"""From columns to padded ``tf.data`` batches, inside the TensorFlow graph."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data import packing
from tfpes.data.padding import Padding
from tfpes.targets import atom_target, composition, structure_target

if TYPE_CHECKING:
    from tfpes.data.structures import Structures

LABELS = ("energy", "forces", "virial")

# Epochs drawn in advance to choose the shapes. A later epoch that does not fit is
# drawn again, so the number is not a matter of correctness.
_TRIAL_EPOCHS = 8
_REDRAWS = 20


def batches(
    structures: Structures,
    batch_size: int,
    shuffle: bool,
    seed: int | None,
    labels: Sequence[str],
    epoch: Any = None,
) -> tf.data.Dataset:
    """Build the dataset; see :meth:`Structures.batches`."""
    unknown = [label for label in labels if label not in LABELS]
    if unknown:
        raise ValueError(f"`labels` must be among {LABELS}. Received: {tuple(labels)}.")
    plan = _Plan(structures, batch_size, shuffle, seed)
    columns = _Columns(structures, plan.shapes, plan.num_structures, tuple(labels))
    if shuffle:
        # Only the grouping, once an epoch, is drawn in NumPy; the batches are
        # assembled in the graph.
        draw, arguments = (
            (plan.next_epoch, []) if epoch is None else (plan.draw_epoch, [epoch])
        )
        grouping = tf.data.Dataset.range(1).map(
            lambda _: tf.ensure_shape(
                tf.numpy_function(draw, arguments, tf.int64, stateful=True),
                plan.fixed.shape,
            )
        )
    else:
        grouping = tf.data.Dataset.from_tensors(plan.fixed)
    # One batch after the other: a step takes ten times as long, and needs the cores.
    dataset = grouping.unbatch().map(columns.assemble)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(plan.fixed)))
    return dataset.prefetch(4)


def ordered_batches(
    structures: Structures, batch_size: int
) -> tuple[tf.data.Dataset, NDArray[np.int64]]:
    """Return unshuffled batches, and which structures each of them holds.

    Returns:
        The dataset of ``(inputs, targets)``, and (B, batch_size) indices of
        structures in the order in which a batch holds them, -1 for none.
    """
    dataset = batches(structures, batch_size, shuffle=False, seed=None, labels=())
    return dataset, _Plan(structures, batch_size, shuffle=False, seed=0).fixed


def padding(structures: Structures, batch_size: int, shuffle: bool) -> Padding:
    """Measure the padding over an epoch; see :meth:`Structures.padding`."""
    plan = _Plan(structures, batch_size, shuffle, seed=0)
    grouping = plan.next_epoch() if shuffle else plan.fixed
    needed = packing.batch_sizes(grouping, plan.sizes) + plan.extra
    used = np.unique(packing.shape_of(needed, plan.shapes))
    atoms, edges = packing.padding_waste(needed - plan.extra, plan.shapes)
    return Padding(
        shapes=tuple(
            (int(a), int(p), plan.num_structures) for a, p in plan.shapes[used]
        ),
        atoms=float(atoms),
        edges=float(edges),
    )


class _Plan:
    """Which structures share a batch in each epoch, and the shapes that hold them."""

    # Every batch has one padding atom at least: padding edges must end somewhere.
    extra = np.array([1, 0])

    def __init__(
        self, structures: Structures, batch_size: int, shuffle: bool, seed: int | None
    ) -> None:
        if not len(structures):
            raise ValueError(
                "`batches` needs at least one structure. Received: an empty "
                "`Structures`. Check the file, the split or the slice."
            )
        if int(batch_size) != batch_size or batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: {batch_size}."
            )
        self.batch_size = min(int(batch_size), len(structures))
        self.sizes = np.stack([structures.num_atoms, structures.num_edges], axis=1)
        self.num_structures = self.batch_size + 1
        self.fixed = packing.balanced_batches(self.sizes, self.batch_size)
        groupings = [self.fixed]
        if shuffle:
            trials = np.random.default_rng(0)
            groupings += [self._draw(trials) for _ in range(_TRIAL_EPOCHS)]
        needed = np.concatenate([packing.batch_sizes(g, self.sizes) for g in groupings])
        self.shapes = packing.choose_shapes(np.maximum(needed + self.extra, 1))
        self.seed = seed if seed is not None else secrets.randbits(64)
        self._epochs = itertools.count()

    def _draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return packing.balanced_batches(self.sizes, self.batch_size, rng)

    def next_epoch(self) -> NDArray[np.int64]:
        """Draw the grouping of the next epoch."""
        return self.draw_epoch(next(self._epochs))

    def draw_epoch(self, epoch: Any) -> NDArray[np.int64]:
        """Draw the grouping of an epoch; it fits into the shapes."""
        rng = np.random.default_rng([self.seed, int(epoch)])
        for _ in range(_REDRAWS):
            grouping = self._draw(rng)
            needed = packing.batch_sizes(grouping, self.sizes) + self.extra
            if (needed <= self.shapes[-1]).all():
                return grouping
        return rng.permutation(self.fixed)


class _Columns:
    """The columns as tensors, and the graph that assembles a batch from them.

    Each column ends with one row of padding: its atom, its edge and its structure.
    A batch is then nothing but rows picked from columns.
    """

    def __init__(
        self,
        structures: Structures,
        shapes: NDArray[np.int64],
        num_structures: int,
        labels: tuple[str, ...],
    ) -> None:
        self.labels = labels
        self.shapes = shapes
        self.num_structures = num_structures
        # The padding structure is a cube that is larger than the cutoff, and a
        # padding edge joins a padding atom to its periodic image.
        cube = 2.0 * structures.cutoff * np.eye(3)
        padding = {
            "positions": 0.0, "atomic_numbers": 0, "cell": cube, "edge_shift": 1,
            "energy": np.nan, "forces": np.nan, "virial": np.nan,
        }  # fmt: skip
        columns = {
            name: _with_last(getattr(structures, name), value)
            for name, value in padding.items()
        }
        columns["edge_index"] = _with_last(structures.edge_index.T, 0)
        for name in ("atom_offsets", "edge_offsets"):
            offsets = getattr(structures, name)
            columns[name] = _with_last(offsets, offsets[-1])
        # Eager tensors are captured by reference: no copy for each traced function.
        self.columns = {name: tf.constant(value) for name, value in columns.items()}
        self.padding_structure = len(structures)

    def assemble(self, picked: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
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
        return inputs, targets

    def _shape(self, atoms: tf.Tensor, edges: tf.Tensor) -> tuple[Any, Any]:
        """Return the padded sizes; integers if there is only one shape."""
        if len(self.shapes) == 1:
            max_atoms, max_edges = self.shapes[0].tolist()
            return max_atoms, max_edges
        shapes = tf.constant(self.shapes, tf.int32)
        fits = tf.reduce_all(shapes >= tf.stack([atoms + 1, edges]), axis=1)
        size = shapes[tf.argmax(tf.cast(fits, tf.int32))]
        return size[0], size[1]


def _with_last(values: NDArray, last: Any) -> NDArray:
    """Append one row."""
    row = np.full((1, *values.shape[1:]), last, values.dtype)
    return np.concatenate([values, row])


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
