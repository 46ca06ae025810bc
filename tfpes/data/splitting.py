"""Which structures go into which part of a split."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS

_Numbers = Callable[[NDArray], tuple[NDArray, NDArray]]
"""From structures to the atomic numbers of their atoms, and the structure of each."""
_BLOCK = 4096


def divide(count: int, fractions: Sequence[float], seed: int) -> list[NDArray]:
    """Divide so many structures at random; see :meth:`Structures.split`.

    Raises:
        ValueError: if the fractions do not make sense.
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.ndim != 1 or not len(shares) or not (shares > 0).all():
        raise ValueError(
            f"`fractions` must be positive numbers. Received: {fractions}."
        )
    if shares.sum() > 1 + 1e-9:
        raise ValueError(
            f"`fractions` must sum to at most 1. Received: {fractions}, which "
            f"sum to {shares.sum():g}."
        )
    ends = np.round(np.cumsum(shares) * count).astype(int)
    # Small parts get one structure, at the expense of the first.
    counts = np.maximum(np.diff(ends, prepend=0), 1)
    counts[0] -= min(max(counts.sum() - count, 0), counts[0])
    order = np.random.default_rng(seed).permutation(count)
    return np.split(order, np.cumsum(counts))[: len(counts)]


def cover_elements(parts: list[NDArray], numbers: _Numbers) -> list[NDArray]:
    """Move structures with elements that the first part lacks into it.

    Args:
        parts: structures of each.
        numbers: what their atoms are.
    """
    covered = np.zeros(NUMBER_OF_COLUMNS, bool)
    for some in _blocks(parts[0]):
        covered[numbers(some)[0]] = True
    moved: list[int] = []
    for part in parts[1:]:
        for some in _blocks(part):
            found, owner = numbers(some)
            while not covered[found].all():
                # The first one may serve others.
                s = owner[covered[found].argmin()]
                covered[found[owner == s]] = True
                moved.append(int(s))
    rest = [np.setdiff1d(part, moved) for part in parts[1:]]
    return [np.append(parts[0], np.array(moved, dtype=int)), *rest]


def _blocks(part: NDArray) -> list[NDArray]:
    return np.split(part, range(_BLOCK, len(part), _BLOCK))
