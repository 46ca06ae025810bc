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
    dataset = grouping.unbatch().map(
        columns.assemble, num_parallel_calls=2, deterministic=True
    )
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
    """The columns as tensors, and the graph that assembles a batch from them."""

    def __init__(
        self,
        structures: Structures,
        shapes: NDArray[np.int64],
        num_structures: int,
        labels: tuple[str, ...],
    ) -> None:
        # Eager tensors are captured by reference: no copy for each traced function.
        self.columns = {
            name: tf.constant(getattr(structures, name))
            for name in (
                "positions", "atomic_numbers", "cell", "edge_index", "edge_shift",
                "energy", "forces", "virial", "atom_offsets", "edge_offsets",
            )
        }  # fmt: skip
        self.labels = labels
        self.shapes = shapes
        self.num_structures = num_structures
        # The padding structure is a cube that is larger than the cutoff, and a
        # padding edge joins a padding atom to its periodic image.
        self.padding_cell = 2.0 * structures.cutoff * tf.eye(3)[None]

    def assemble(self, picked: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """Gather the picked structures and pad them to the first shape that fits."""
        data = self.columns
        picked = tf.boolean_mask(picked, picked >= 0)
        atoms, atom_counts = _ranges(data["atom_offsets"], picked)
        edges, edge_counts = _ranges(data["edge_offsets"], picked)
        num_atoms, num_edges, shape = self._shape(tf.size(atoms), tf.size(edges))

        def pad(values: tf.Tensor, length: Any, fill: Any) -> tf.Tensor:
            missing = length - tf.shape(values)[0]
            rest = [[0, 0]] * (values.shape.rank - 1)
            return tf.pad(values, [[0, missing], *rest], constant_values=fill)

        def pad_atoms(values: tf.Tensor, fill: Any) -> tf.Tensor:
            padded = pad(values, num_atoms, fill)
            return tf.ensure_shape(padded, (shape[0], *values.shape[1:]))

        def pad_edges(values: tf.Tensor, fill: Any) -> tf.Tensor:
            padded = pad(values, num_edges, fill)
            return tf.ensure_shape(padded, (shape[1], *values.shape[1:]))

        def pad_structures(values: tf.Tensor, fill: Any) -> tf.Tensor:
            padded = pad(values, self.num_structures, fill)
            return tf.ensure_shape(padded, (self.num_structures, *values.shape[1:]))

        last = self.num_structures - 1
        atomic_numbers = pad_atoms(tf.gather(data["atomic_numbers"], atoms), 0)
        structure_index = pad_atoms(
            tf.repeat(tf.range(tf.size(picked)), atom_counts), last
        )
        first_atom = tf.cumsum(atom_counts, exclusive=True)
        edge_index = tf.transpose(tf.gather(data["edge_index"], edges, axis=1))
        edge_index += tf.repeat(first_atom, edge_counts)[:, None]
        edge_index = tf.transpose(
            pad_edges(edge_index, tf.cast(num_atoms - 1, tf.int32))
        )
        edge_shift = tf.cast(tf.gather(data["edge_shift"], edges), tf.float32)
        cell = tf.gather(data["cell"], picked)
        missing = self.num_structures - tf.shape(cell)[0]
        cell = tf.concat([cell, tf.repeat(self.padding_cell, missing, axis=0)], axis=0)
        inputs = {
            "positions": pad_atoms(tf.gather(data["positions"], atoms), 0.0),
            "atomic_numbers": atomic_numbers,
            "structure_index": structure_index,
            "cell": tf.ensure_shape(cell, (self.num_structures, 3, 3)),
            "edge_index": edge_index,
            "edge_shift": pad_edges(edge_shift, 1.0),
        }
        counts = composition(atomic_numbers, structure_index, self.num_structures)
        targets = {}
        for label in self.labels:
            if label == "forces":
                forces = pad_atoms(tf.gather(data["forces"], atoms), np.nan)
                targets[label] = atom_target(forces, atomic_numbers, structure_index)
            else:
                values = pad_structures(tf.gather(data[label], picked), np.nan)
                targets[label] = structure_target(values, counts)
        return inputs, targets

    def _shape(
        self, atoms: tf.Tensor, edges: tf.Tensor
    ) -> tuple[Any, Any, tuple[int | None, int | None]]:
        """Return the padded sizes, and what of them is known before running."""
        if len(self.shapes) == 1:
            max_atoms, max_edges = self.shapes[0].tolist()
            return max_atoms, max_edges, (max_atoms, max_edges)
        shapes = tf.constant(self.shapes, tf.int32)
        fits = tf.reduce_all(shapes >= tf.stack([atoms + 1, edges]), axis=1)
        size = shapes[tf.argmax(tf.cast(fits, tf.int32))]
        return size[0], size[1], (None, None)


def _ranges(offsets: tf.Tensor, picked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenate ``range(offsets[s], offsets[s + 1])``; also return the lengths."""
    starts, limits = tf.gather(offsets, picked), tf.gather(offsets, picked + 1)
    ids = tf.ragged.range(starts, limits).flat_values
    return ids, tf.cast(limits - starts, tf.int32)
