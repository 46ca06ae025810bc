"""Which structures share a batch, and which padded shapes the batches take."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# Assignments are solved among this many batches at a time: their cost is cubic.
_CHUNK = 64
# The cost of a batch is its relative size to this power: the largest one decides.
_POWER = 8
# Exchanges with the fullest batch: how many at most, among how many structures, and
# from which relative size on.
_EXCHANGES = 200
_CANDIDATES = 4096
_CLOSE_ENOUGH = 1.04


def balanced_batches(
    sizes: NDArray, batch_size: int, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Divide structures among batches that are all nearly the same size.

    Structures are ranked by size and cut into strata of one structure for each
    batch; every batch gets one structure of each stratum. Stratum by stratum, an
    assignment problem decides who gets which, so that full batches get the small
    ones; a second round over the strata refines the first. The batches then differ
    by a few percent, and one or few padded shapes serve them all.

    Args:
        sizes: (S, D) the quantities to balance (atoms, edges).
        batch_size: structures in a batch.
        rng: shuffles, so that structures meet others each time. Without it the
            result depends on the sizes alone.

    Returns:
        (B, batch_size) indices of structures, -1 at the end where a batch has fewer;
        B = ceil(S / batch_size). Each structure occurs exactly once.
    """
    count = len(sizes)
    num_batches = -(-count // batch_size)
    # The size of a full batch is 1 in each column.
    relative = sizes / np.maximum(sizes.sum(axis=0) / num_batches, 1e-12)
    rank_key = relative.sum(axis=1)
    order = np.arange(count)
    if rng is not None:
        order = rng.permutation(count)
        # Sizes are blurred by up to 20 %, or structures of rare sizes would meet
        # the same neighbours in each epoch.
        rank_key = rank_key * rng.uniform(0.8, 1.2, size=count)
    order = order[np.argsort(-rank_key[order], kind="stable")]
    ranked = np.full(num_batches * batch_size, -1, dtype=np.int64)
    ranked[:count] = order
    batches = ranked.reshape(batch_size, num_batches).T.copy()
    # Index -1 is a structure of no size.
    relative = np.concatenate([relative, np.zeros((1, relative.shape[1]))])
    total = np.zeros((num_batches, relative.shape[1]))
    for first_round in (True, False):
        for stratum in range(batch_size):
            members = batches[:, stratum]
            if not first_round:
                total -= relative[members]
            for start in range(0, num_batches, _CHUNK):
                chunk = slice(start, start + _CHUNK)
                load = total[chunk, None, :] + relative[members[chunk]][None]
                _, best = linear_sum_assignment((load**_POWER).sum(axis=2))
                batches[chunk, stratum] = members[chunk][best]
            total += relative[batches[:, stratum]]
    _relieve(batches, total, relative, rng or np.random.default_rng(0))
    if rng is not None:
        rng.shuffle(batches)
    else:
        batches.sort(axis=1)
    empty_last = np.argsort(batches < 0, axis=1, kind="stable")
    return np.take_along_axis(batches, empty_last, axis=1)


def _relieve(
    batches: NDArray[np.int64], total: NDArray, relative: NDArray, rng: Any
) -> None:
    """Exchange members of the fullest batch for smaller ones, in place.

    A batch that holds one exceptionally large structure stays above the others, as
    long as it must take one structure of each stratum.
    """
    for _ in range(_EXCHANGES):
        fullest = int(total.max(axis=1).argmax())
        if total[fullest].max() <= _CLOSE_ENOUGH:
            return
        candidates = rng.permutation(batches.size)[:_CANDIDATES]
        candidates = candidates[candidates // batches.shape[1] != fullest]
        if not len(candidates):
            return
        owner, place = np.divmod(candidates, batches.shape[1])
        gain = (
            relative[batches[owner, place]][None] - relative[batches[fullest]][:, None]
        )
        worst = np.maximum(
            (total[fullest] + gain).max(axis=2), (total[owner][None] - gain).max(axis=2)
        )
        mine, theirs = np.unravel_index(worst.argmin(), worst.shape)
        if worst[mine, theirs] >= total[fullest].max():
            return
        other, slot = owner[theirs], place[theirs]
        total[fullest] += gain[mine, theirs]
        total[other] -= gain[mine, theirs]
        batches[fullest, mine], batches[other, slot] = (
            batches[other, slot],
            batches[fullest, mine],
        )


def batch_sizes(batches: NDArray[np.int64], sizes: NDArray) -> NDArray[np.int64]:
    """Sum the (S, D) sizes over each of the (B, batch_size) batches."""
    return np.where((batches >= 0)[..., None], sizes[batches], 0).sum(axis=1)


def choose_shapes(
    needed: NDArray[np.int64], max_shapes: int = 4, max_waste: float = 0.10
) -> NDArray[np.int64]:
    """Choose the fewest padded shapes that keep the padding small.

    Args:
        needed: (B, D) what each batch needs.
        max_shapes: never more shapes than this: XLA compiles each one.
        max_waste: the fraction of padding at which one more shape is tried.

    Returns:
        (K, D), ascending in each column; the last one holds every batch.
    """
    # A batch takes the first shape that is large enough in *every* column, so
    # shapes are nested: thresholds on the batches sorted by their largest excess.
    scale = np.maximum(needed.max(axis=0), 1)
    needed = needed[np.argsort((needed / scale).max(axis=1), kind="stable")]
    grid = np.unique(np.linspace(0, len(needed), min(len(needed), 64) + 1).astype(int))
    largest = np.maximum.accumulate(needed, axis=0)[grid[1:] - 1]
    count = np.diff(grid)
    shapes: NDArray[np.int64] = largest[-1:]
    for num_shapes in range(1, min(max_shapes, len(largest)) + 1):
        shapes = _best_thresholds(largest, count, num_shapes)
        if padding_waste(needed, shapes).max() <= max_waste:
            break
    return shapes


def padding_waste(needed: NDArray, shapes: NDArray) -> NDArray[np.float64]:
    """Return the fraction of each column that is padding, (D,)."""
    padded = shapes[shape_of(needed, shapes)].sum(axis=0)
    return 1.0 - needed.sum(axis=0) / np.maximum(padded, 1)


def shape_of(needed: NDArray, shapes: NDArray) -> NDArray[np.int64]:
    """Return, for each batch, the index of the first shape that holds it, (B,)."""
    fits = (needed[:, None, :] <= shapes[None]).all(axis=2)
    return fits.argmax(axis=1)


def _best_thresholds(
    largest: NDArray, count: NDArray, num_shapes: int
) -> NDArray[np.int64]:
    """Cut ascending groups of batches into runs with the least padding.

    Dynamic programming over the last group of each run; the cost of a batch is the
    padded size of its run, in units of the largest.
    """
    cost = (largest / np.maximum(largest[-1], 1)).sum(axis=1)
    cumulative = np.concatenate([[0], np.cumsum(count)])
    groups = len(largest)
    best = np.full((num_shapes + 1, groups + 1), np.inf)
    best[0, 0] = 0.0
    previous = np.zeros((num_shapes + 1, groups + 1), dtype=int)
    for k in range(1, num_shapes + 1):
        for end in range(1, groups + 1):
            runs = best[k - 1, :end] + cost[end - 1] * (
                cumulative[end] - cumulative[:end]
            )
            previous[k, end] = runs.argmin()
            best[k, end] = runs.min()
    ends = [groups]
    for k in range(num_shapes, 1, -1):
        ends.append(previous[k, ends[-1]])
    return largest[np.array(ends[::-1]) - 1]
