"""Which structures share a batch, and which padded shapes the batches take."""

import dataclasses
import heapq
import itertools
import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Epochs drawn in advance to choose the shapes. A later epoch that does not fit is
# drawn again, so the number is not a matter of correctness.
_TRIAL_EPOCHS = 8
_REDRAWS = 20
# Every batch has one padding atom at least: padding edges must end somewhere.
_EXTRA = np.array([1, 0])
# XLA compiles each shape; one more is added while more than this is padding.
_MAX_SHAPES = 4
_MAX_WASTE = 0.10


@dataclasses.dataclass(frozen=True)
class Padding:
    """Shapes of the batches, and the fraction of atoms and edges that is padding.

    Attributes:
        shapes: (atoms, edges, structures) of each distinct shape.
        atoms: fraction of all atoms that is padding.
        edges: fraction of all edges that is padding.
    """

    shapes: tuple[tuple[int, int, int], ...]
    atoms: float
    edges: float

    def __str__(self) -> str:
        """Format as one line."""
        shapes = ", ".join(
            f"{atoms} atoms × {edges} edges" for atoms, edges, _ in self.shapes
        )
        return (
            f"{len(self.shapes)} batch shape(s) ({shapes}); padding: "
            f"{self.atoms:.1%} of atoms, {self.edges:.1%} of edges"
        )


class Plan:
    """Which structures share a batch in each epoch, and the shapes that hold them.

    Args:
        sizes: (S, 2) atoms and edges of each structure.
        batch_size: structures in a batch.
        shuffle: whether each epoch is grouped anew.
        seed: of the shuffle.
        share: rank and number of processes. Each gets a part of each batch: which
            structures make a batch does not depend on their number.

    Attributes:
        shuffle: as given.
        fixed: the grouping without shuffle, as from :func:`balanced_batches`; the part
            of this process.
        shapes: (K, 2) padded atoms and edges, ascending.
        num_structures: of each batch, with one of padding.

    Raises:
        ValueError: for no structures or a bad batch size.
    """

    def __init__(
        self,
        sizes: NDArray,
        batch_size: int,
        shuffle: bool,
        seed: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Choose the shapes."""
        if not len(sizes):
            raise ValueError(
                "`batches` needs at least one structure. Received: an empty "
                "`Structures`. Check the file, the split or the slice."
            )
        if int(batch_size) != batch_size or batch_size < 1:
            raise ValueError(
                f"`batch_size` must be a positive integer. Received: {batch_size}."
            )
        self._sizes = sizes
        self.shuffle = shuffle
        self._seed = secrets.randbits(64) if seed is None else seed
        self._epochs = itertools.count()
        self._rank, self._processes = share
        self._whole = balanced_batches(sizes, batch_size)
        self.fixed = self._part(self._whole)[self._rank]
        self.num_structures = self.fixed.shape[1] + 1
        groupings = [self._whole]
        if shuffle:
            trials = np.random.default_rng(0)
            groupings += [self._group(trials) for _ in range(_TRIAL_EPOCHS)]
        grouping = np.concatenate(groupings)
        self._largest = np.maximum(self._needed(grouping).max(axis=0), 1)
        needed = self._needed(np.concatenate(self._part(grouping)))
        self.shapes = _choose_shapes(np.maximum(needed, 1))
        if self._processes > 1:
            # A later part may be larger than these, but never than a whole batch.
            self.shapes = np.concatenate([self.shapes, self._largest[None]])

    def draw(self, epoch: int | None = None) -> NDArray[np.int64]:
        """Draw the grouping of an epoch, by default of the next one; it fits."""
        number = next(self._epochs) if epoch is None else int(epoch)
        rng = np.random.default_rng([self._seed, number])
        for _ in range(_REDRAWS):
            grouping = self._group(rng)
            if (self._needed(grouping) <= self._largest).all():
                break
        else:
            grouping = rng.permutation(self._whole)
        return self._part(grouping)[self._rank]

    def padding(self) -> Padding:
        """Measure the padding over an epoch."""
        needed = self._needed(self.draw() if self.shuffle else self.fixed)
        padded = _padded(needed, self.shapes)
        shapes = np.unique(padded, axis=0).tolist()
        waste = 1.0 - (needed - _EXTRA).sum(axis=0) / padded.sum(axis=0)
        return Padding(
            tuple((atoms, edges, self.num_structures) for atoms, edges in shapes),
            *waste.tolist(),
        )

    def _group(self, rng: np.random.Generator) -> NDArray[np.int64]:
        return balanced_batches(self._sizes, self._whole.shape[1], rng)

    def _part(self, grouping: NDArray[np.int64]) -> NDArray[np.int64]:
        """Divide each batch among the processes, by size, (processes, B, ...)."""
        if self._processes == 1:
            return grouping[None]
        batches, width = grouping.shape
        relative = (self._sizes / np.maximum(self._sizes.sum(axis=0), 1)).sum(axis=1)
        size = np.where(grouping >= 0, relative[grouping], 0.0)
        # What is missing stays at the end.
        order = np.lexsort((-size, grouping < 0), axis=1)
        room = -(-width // self._processes)
        parts = np.full((self._processes, batches, room), -1)
        batch = np.arange(batches)
        load = np.zeros((batches, self._processes))
        number = np.zeros_like(load, int)
        # Largest first, to the process that has least of its batch, all at a time.
        for place in order.T:
            owner = np.where(number < room, load, np.inf).argmin(axis=1)
            parts[owner, batch, number[batch, owner]] = grouping[batch, place]
            load[batch, owner] += size[batch, place]
            number[batch, owner] += 1
        return parts

    def _needed(self, grouping: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes = np.where((grouping >= 0)[..., None], self._sizes[grouping], 0)
        return sizes.sum(axis=1) + _EXTRA


def rank_and_size(
    share: Any, batch_size: int, shuffle: bool, seed: int | None
) -> tuple[int, int]:
    """Return the rank and the number of processes of a cluster."""
    if not (hasattr(share, "rank") and hasattr(share, "size")):
        raise TypeError(
            "`share` is a cluster, whose processes share each batch. Received: "
            f"{share!r}. Pass a `tfpes.distribute.Cluster()`, or leave it out."
        )
    if share.size > 1 and shuffle and seed is None:
        raise ValueError(
            "Processes that share batches must shuffle alike. Received: "
            "`shuffle=True` without a `seed`. Pass the same one in each process."
        )
    if batch_size < share.size:
        raise ValueError(
            "`batch_size` is that of all processes together, at least one structure "
            f"for each. Received: {batch_size} for {share.size} processes."
        )
    return share.rank, share.size


def balanced_batches(
    sizes: NDArray, batch_size: int, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Divide structures among batches that are all nearly the same size.

    Largest first, each structure goes to the emptiest batch that has room. The fuller
    of the two, atoms or edges, tells how full a batch is. The batches then differ by a
    few percent, and one or few padded shapes serve them all.

    Args:
        sizes: (S, 2) atoms and edges.
        batch_size: structures in a batch.
        rng: shuffles, so that structures meet others each time. Without it the
            result depends on the sizes alone.

    Returns:
        (B, batch_size) indices of structures, -1 at the end where a batch has fewer;
        B = ceil(S / batch_size). Each structure occurs exactly once. If there are
        fewer than ``batch_size`` of them, they make one batch without any -1.
    """
    count = len(sizes)
    batch_size = min(int(batch_size), count)
    num_batches = -(-count // batch_size)
    # The size of a full batch is 1 in each column.
    relative = sizes / np.maximum(sizes.sum(axis=0) / num_batches, 1e-12)
    rank = relative.sum(axis=1)
    order = np.arange(count)
    if rng is not None:
        order = rng.permutation(count)
        # Sizes are blurred by up to 20 %, or structures of rare sizes would meet
        # the same neighbours in each epoch.
        rank = rank * rng.uniform(0.8, 1.2, size=count)
    order = order[np.argsort(-rank[order], kind="stable")]
    members: list[list[int]] = [[] for _ in range(num_batches)]
    # How full a batch is, the batch, and its relative atoms and edges.
    batches = [(0.0, batch, 0.0, 0.0) for batch in range(num_batches)]
    for structure, (more_atoms, more_edges) in zip(
        order.tolist(), relative[order].tolist(), strict=True
    ):
        _, batch, atoms, edges = batches[0]
        atoms += more_atoms
        edges += more_edges
        members[batch].append(structure)
        if len(members[batch]) < batch_size:
            heapq.heapreplace(batches, (max(atoms, edges), batch, atoms, edges))
        else:
            heapq.heappop(batches)
    grouping = np.full((num_batches, batch_size), -1)
    for row, structures in zip(grouping, members, strict=True):
        row[: len(structures)] = structures
    return grouping if rng is None else rng.permutation(grouping)


def _choose_shapes(needed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose few padded shapes that keep the padding small.

    One shape holds all batches. As long as it wastes too much, the shape is added that
    saves most.

    Args:
        needed: (B, D) what each batch needs, positive.

    Returns:
        (K, D), ascending in each column; the last one holds every batch.
    """
    # A batch takes the first shape that is large enough in *every* column, so
    # shapes are nested: thresholds on the batches sorted by their largest excess.
    relative = needed / needed.max(axis=0)
    needed = needed[np.argsort(relative.max(axis=1), kind="stable")]
    largest = np.maximum.accumulate(needed, axis=0)
    cost = (largest / largest[-1]).sum(axis=1)
    place = np.arange(len(needed))
    ends = place[-1:]
    for _ in range(_MAX_SHAPES - 1):
        padded = _padded(needed, largest[ends])
        if (needed.sum(axis=0) >= (1 - _MAX_WASTE) * padded.sum(axis=0)).all():
            break
        # How many batches of the same shape are not larger, times what each saves.
        run = np.searchsorted(ends, place)
        before = place - np.append(-1, ends)[run]
        saved = before * (cost[ends[run]] - cost)
        if not saved.any():
            break
        ends = np.sort(np.append(ends, saved.argmax()))
    return largest[ends]


def _padded(needed: NDArray, shapes: NDArray) -> NDArray[np.int64]:
    """Return, for each batch, the first of the shapes that holds it, (B, D)."""
    return shapes[(needed[:, None, :] <= shapes[None]).all(axis=2).argmax(axis=1)]
