"""Sufficient statistics of a property of structures: one row per composition."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.checks import (
    FORMAT_VERSION,
    check_composition,
    check_isolated,
    check_state,
    check_values,
    check_weights,
    damaged,
)
from tfpes.statistics.tables.rows import (
    Rows,
    concatenate,
    group_rows,
    sort_rows,
)

_COUNTERS = ("received", "missing", "weightless", "empty")
_PARTS = ("bulk", "isolated")
# Rows wait unmerged up to this many, so that many small batches cost one sort.
_PENDING_ROWS = 65536


class _Part:
    """Rows already merged (unless structures are kept), and rows that wait."""

    def __init__(self, keep_structures: bool) -> None:
        self._keep_structures = keep_structures
        self._rows = Rows.empty()
        self._waiting: list[Rows] = []
        self._waiting_rows = 0

    def add(self, rows: Rows) -> None:
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        # Growing with the table keeps the cost of merging proportional to the data.
        if self._waiting_rows > max(_PENDING_ROWS, len(self._rows) // 4):
            self.compact()

    def compact(self) -> Rows:
        """Return all rows, after merging what waits."""
        if self._waiting:
            rows = concatenate([self._rows, *self._waiting])
            self._rows = rows if self._keep_structures else group_rows(rows)
            self._waiting, self._waiting_rows = [], 0
        return self._rows


class CompositionTable:
    r"""Sufficient statistics of a per-structure property, gathered in one pass.

    For each distinct composition $c$ the table holds the sum of weights $k_c$, the
    mean $m_c$ and the sum of squared deviations $M_{2,c}$: all that a Gaussian
    likelihood with mean $n_c\cdot\mu$ and variance $s_c^2$ sees of the data. Third and
    fourth moments, least and greatest value serve the report. Batches, shards and
    their order do not matter (to rounding, 1e-12).

    A structure whose value is NaN, whose weight is 0 or that has no atoms is left
    out, and counted. Weights are frequencies: weight 2 is the same as having the
    structure twice.

    Args:
        keep_structures: keep every single value, which a robust fit needs where
            several structures share a composition (about 100 bytes each).

    Example:
        >>> import numpy as np
        >>> composition = np.zeros((3, 119))
        >>> composition[:, [1, 8]] = [[2, 1], [2, 1], [4, 2]]
        >>> table = CompositionTable()
        >>> table.update(composition, [-14.1, -14.3, -28.6])
        >>> len(table), table.structures
        (2, 3)
    """

    def __init__(self, *, keep_structures: bool = False) -> None:
        """Start empty."""
        self.keep_structures = bool(keep_structures)
        self._parts = (_Part(self.keep_structures), _Part(self.keep_structures))
        self._counters = np.zeros(len(_COUNTERS), np.int64)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy: what is read of a pickle may be read-only, and is added to."""
        self.__dict__ = {**state, "_counters": state["_counters"].copy()}

    def update(
        self,
        composition: ArrayLike,
        values: ArrayLike,
        weights: ArrayLike | None = None,
        isolated: ArrayLike | None = None,
    ) -> None:
        """Add a batch of structures.

        Args:
            composition: atoms of each element, indexed by Z, shape (S, 119).
            values: the property, NaN where there is no label, shape (S,).
            weights: shape (S,), 1 if not given.
            isolated: which structures are one isolated atom, shape (S,). They go to
                a part of their own. If not given, these are all structures of one
                atom; pass False for a periodic cell of one atom.

        Raises:
            ValueError: for a wrong shape, counts that are no whole numbers between
                0 and 2**32 - 1, an entry in column 0, infinite values, negative or
                NaN weights. The table is then unchanged.
        """
        atoms = check_composition(composition)
        structures = atoms.shape[0]
        value = check_values(values, structures)
        weight = check_weights(weights, structures)
        flag = check_isolated(isolated, structures)
        if flag is None:
            flag = atoms @ np.ones(NUMBER_OF_COLUMNS) == 1
        real = np.diff(atoms.indptr) > 0
        missing = real & np.isnan(value)
        weightless = real & ~missing & (weight == 0)
        used = real & ~missing & ~weightless
        rows = Rows.single(atoms, value, weight)
        for part, mine in zip(self._parts, (used & ~flag, used & flag), strict=True):
            if mine.any():
                part.add(rows if mine.all() else rows.take(mine))
        numbers = [structures, *map(np.count_nonzero, (missing, weightless, ~real))]
        self._counters += np.array(numbers)

    def merge(self, other: "CompositionTable") -> None:
        """Add everything that `other` has seen; `other` is not changed.

        Raises:
            TypeError: if `other` is no `CompositionTable`.
            ValueError: if only one of the two keeps its structures.
        """
        if not isinstance(other, CompositionTable):
            raise TypeError(
                "`merge` takes a `CompositionTable`. Received: "
                f"{type(other).__name__}. Build one with `update` or `from_state`."
            )
        if other.keep_structures != self.keep_structures:
            raise ValueError(
                "Tables are merged if both keep their structures or neither does. "
                f"Received: `keep_structures={self.keep_structures}` here and "
                f"`keep_structures={other.keep_structures}` in `other`. Build both "
                "with the same option."
            )
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            mine.add(theirs.compact())
        self._counters += other._counters

    def __len__(self) -> int:
        """Return the number of distinct compositions, isolated atoms left out."""
        return len(self.rows())

    @property
    def structures(self) -> int:
        """Number of structures in the table, isolated atoms left out."""
        return int(self._parts[0].compact().number.sum())

    @property
    def isolated_structures(self) -> int:
        """Number of isolated atoms in the table."""
        return int(self._parts[1].compact().number.sum())

    @property
    def counts_seen(self) -> dict[str, int]:
        """Structures received, and left out because of NaN, weight 0 or no atoms."""
        return dict(zip(_COUNTERS, self._counters.tolist(), strict=True))

    def rows(self, *, isolated: bool | None = False) -> Rows:
        """Return one row per distinct composition, in an order fixed by the set.

        Args:
            isolated: the part: False without isolated atoms, True only them, None for
                both.
        """
        if isolated is None or self.keep_structures:
            # A periodic cell of one atom and an isolated atom share a composition.
            return group_rows(self._all(isolated))
        return self._parts[isolated].compact()

    def structure_rows(self, *, isolated: bool | None = False) -> Rows | None:
        """Return one row per structure, or None if they were not kept."""
        return sort_rows(self._all(isolated)) if self.keep_structures else None

    def _all(self, isolated: bool | None) -> Rows:
        parts = self._parts if isolated is None else [self._parts[isolated]]
        return concatenate([part.compact() for part in parts])

    def state(self) -> dict[str, NDArray]:
        """Return the table as plain arrays of numbers, for `from_state`."""
        state: dict[str, NDArray] = {
            "version": np.array(FORMAT_VERSION),
            "keep_structures": np.array(self.keep_structures),
            "counters": self._counters.copy(),
        }
        for name, part in zip(_PARTS, self._parts, strict=True):
            rows = part.compact()
            state |= (sort_rows(rows) if self.keep_structures else rows).state(name)
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> "CompositionTable":
        """Return the table that `state` was taken from.

        Raises:
            ValueError: if the state is damaged or of another version.
        """
        check_state(state, cls.__name__, ("keep_structures", "counters"))
        table = cls(keep_structures=bool(state["keep_structures"]))
        counters = np.array(state["counters"], np.int64)
        if counters.shape != (len(_COUNTERS),):
            raise damaged(cls.__name__, f"with counters of shape {counters.shape}")
        table._counters = counters
        for name, part in zip(_PARTS, table._parts, strict=True):
            part.add(Rows.from_state(state, name, cls.__name__))
        return table
