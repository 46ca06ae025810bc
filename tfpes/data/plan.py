"""Which structures share a batch in each epoch, window by window."""

import itertools
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.packing import Padding, balanced_batches, choose_shapes

# Windows drawn in advance to choose the shapes. A later one that does not fit is drawn
# again, so the number is not a matter of correctness.
_TRIALS = 8
_REDRAWS = 20
# Structures that are in memory together, and balanced: 17 MB of crystals with edges.
_WINDOW = 1024
# Of the shape of a batch that fits none of those that were chosen.
_GROWTH = 1.1
# Every batch has one padding atom at least: padding edges must end somewhere.
_EXTRA = np.array([1, 0])


class Plan:
    """Which structures share a batch in each epoch, and the shapes that hold them.

    An epoch is divided into windows that fit into memory, and each of them into
    batches. Windows have nearly the same mix of sizes: each takes one structure of
    each stretch of the order by size. A small set is one window.

    Args:
        sizes: (S, 2) atoms and edges of each structure.
        batch_size: structures in a batch.
        shuffle: whether each epoch is grouped anew.
        seed: of the shuffle.
        share: rank and number of processes. Each gets a part of each batch: which
            structures make a batch does not depend on their number.

    Attributes:
        shuffle: as given.
        num_batches: of an epoch.
        num_windows: of an epoch.
        shapes: (K, 2) padded atoms and edges, ascending. Where there are several
            windows, a batch may be larger: see :meth:`fit`.
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
        self._batch_size = min(int(batch_size), len(sizes))
        self.num_batches = -(-len(sizes) // self._batch_size)
        in_window = max(_WINDOW // self._batch_size, 8)
        self.num_windows = -(-self.num_batches // in_window)
        self._ends = _spread(self.num_batches, self.num_windows)
        trials = self._trials()
        needed = [_needed(self._sizes[row], group) for row, group in trials]
        self._largest = np.maximum(np.concatenate(needed).max(axis=0), 1)
        parts = [
            _needed(self._sizes[row], part)
            for row, group in trials
            for part in self._part(row, group)
        ]
        self.shapes = choose_shapes(np.maximum(np.concatenate(parts), 1))
        self.num_structures = self._part(*trials[0]).shape[2] + 1
        if self._processes > 1:
            # A later part may be larger than these, but never than a whole batch.
            self.shapes = np.concatenate([self.shapes, self._largest[None]])

    def deal(
        self, epoch: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Divide the structures of an epoch, by default of the next one, into windows.

        Returns:
            (W,) the epoch, (W,) the windows and (W, N) their structures, -1 at the end.
        """
        number = next(self._epochs) if epoch is None else int(epoch)
        rng = np.random.default_rng([self._seed, number, self.num_windows])
        members = self._deal(rng if self.shuffle else None)
        return np.full(len(members), number), np.arange(len(members)), members

    def draw(
        self, epoch: int, window: int, members: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Group the structures of a window into batches.

        Returns:
            (N,) the structures, (B, ...) which of these are in each batch of this
            process, -1 where it has fewer, and (B, 2) its padded shape.
        """
        members = members[members >= 0]
        grouping = self._group(members, None)
        if self.shuffle:
            rng = np.random.default_rng([self._seed, epoch, window])
            for _ in range(_REDRAWS):
                drawn = self._group(members, rng)
                fits = (_needed(self._sizes[members], drawn) <= self._largest).all()
                if fits or self.num_windows > 1:
                    grouping = drawn
                if fits:
                    break
            else:
                grouping = rng.permutation(grouping)
        part = self._part(members, grouping)[self._rank]
        return members, part, self.fit(_needed(self._sizes[members], part))

    def epoch(self) -> Iterator[NDArray[np.int64]]:
        """Yield the structures of each batch of the next epoch."""
        for row in zip(*self.deal(), strict=True):
            members, grouping, _ = self.draw(*row)
            yield from (members[picked[picked >= 0]] for picked in grouping)

    def fit(self, needed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the padded shape of batches, (B, 2).

        The first one that holds it. What none holds gets the last one, larger by as
        many times 10 % as it takes.
        """
        fits = np.all(needed[:, None] <= self.shapes, axis=2)
        padded = self.shapes[fits.argmax(axis=1)]
        over = ~np.any(fits, axis=1)
        excess = np.log(needed[over] / self.shapes[-1]).max(axis=1)
        growth = _GROWTH ** np.ceil(excess / np.log(_GROWTH))
        grown = np.ceil(growth[:, None] * self.shapes[-1]).astype(np.int64)
        padded[over] = np.maximum(grown, needed[over])
        return padded

    def padding(self) -> Padding:
        """Measure the padding over the first windows of an epoch."""
        rows = zip(*self.deal(), strict=True)
        used, padded = [], []
        for row in itertools.islice(rows, _TRIALS):
            members, grouping, shapes = self.draw(*row)
            used.append(_needed(self._sizes[members], grouping) - _EXTRA)
            padded.append(shapes)
        shapes = np.concatenate(padded)
        waste = 1.0 - np.concatenate(used).sum(axis=0) / shapes.sum(axis=0)
        return Padding(
            tuple(
                (*s, self.num_structures) for s in np.unique(shapes, axis=0).tolist()
            ),
            *waste.tolist(),
        )

    def _trials(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Group what is like the windows to come."""
        rng = np.random.default_rng(0) if self.shuffle else None
        windows = self._deal(rng)[:_TRIALS]
        if self.num_windows > _TRIALS:
            # The largest structures are in one of those to come.
            windows[0, :2] = self._sizes.argmax(axis=0)
        rows = [row[row >= 0] for row in windows]
        trials = [(row, self._group(row, rng)) for row in rows]
        if self.num_windows == 1:
            whole = (rows[0], self._group(rows[0], None))
            more = [(rows[0], self._group(rows[0], rng)) for _ in range(_TRIALS - 1)]
            trials = [whole, *trials, *more] if self.shuffle else [whole]
        return trials

    def _deal(self, rng: np.random.Generator | None) -> NDArray[np.int64]:
        """Divide all structures among windows of nearly the same mix, (W, N)."""
        count = len(self._sizes)
        if self.num_windows == 1:
            return np.arange(count)[None]
        # Structures of a window follow from its number of batches.
        numbers = np.diff(self._ends * count // self.num_batches)
        window = np.repeat(np.arange(self.num_windows), numbers)
        place = np.concatenate([np.arange(n) for n in numbers])
        rank = _rank(self._sizes)
        order = np.arange(count)
        chance: Any = 0.5
        if rng is not None:
            rank = rank * rng.uniform(0.8, 1.2, size=count)
            chance = rng.random(count)
        order = np.argsort(-rank, kind="stable")
        # Each window has a ticket in each of its stretches of the order.
        ticket = np.argsort((place + chance) / numbers[window], kind="stable")
        members = np.full((self.num_windows, numbers.max()), -1)
        members[window[ticket], place[ticket]] = order
        return members

    def _group(
        self, members: NDArray[np.int64], rng: np.random.Generator | None
    ) -> NDArray[np.int64]:
        return balanced_batches(self._sizes[members], self._batch_size, rng)

    def _part(
        self, members: NDArray[np.int64], grouping: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Divide each batch among the processes, by size, (processes, B, ...)."""
        if self._processes == 1:
            return grouping[None]
        batches, width = grouping.shape
        relative = _rank(self._sizes[members])
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


def _spread(count: int, parts: int) -> NDArray[np.int64]:
    """Return where each of so many parts begins, and where the last one ends."""
    return np.arange(parts + 1) * count // parts


def _rank(sizes: NDArray) -> NDArray[np.float64]:
    """Return how large structures are, atoms and edges alike."""
    return (sizes / np.maximum(sizes.sum(axis=0), 1)).sum(axis=1)


def _needed(sizes: NDArray, grouping: NDArray[np.int64]) -> NDArray[np.int64]:
    there = (grouping >= 0)[..., None]
    return np.where(there, sizes[grouping], 0).sum(axis=1) + _EXTRA


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
