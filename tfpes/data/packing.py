"""Batches of nearly one size, and few padded shapes for them."""

import dataclasses
import heapq

import numpy as np
from numpy.typing import NDArray

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
        plural = "s" * (len(self.shapes) > 1)
        return (
            f"{len(self.shapes)} batch shape{plural} ({shapes}); padding: "
            f"{self.atoms:.1%} of atoms, {self.edges:.1%} of edges"
        )


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


def choose_shapes(needed: NDArray[np.int64]) -> NDArray[np.int64]:
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
