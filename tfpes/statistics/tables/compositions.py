"""Sufficient statistics of a property of structures: one row per composition."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.checks import (
    check_counts,
    check_isolated,
    check_structures,
    check_weights,
)
from tfpes.statistics.tables.rows import (
    Rows,
    concatenate,
    group_rows,
    single_moments,
    sort_rows,
)
from tfpes.statistics.tables.storage import (
    FORMAT_VERSION,
    check_state,
    damaged,
    load_state,
    save_state,
)
from tfpes.statistics.tables.table_part import (
    KIND,
    ROW_ARRAYS,
    TablePart,
    rows_from_state,
    rows_state,
)

COUNTERS = ("received", "missing", "weightless", "empty")


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
        keep_structures: also keep every single value, which a robust fit needs
            where several structures share a composition (about 90 bytes each).

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
        self._parts = (TablePart(), TablePart())
        self._counters = np.zeros(len(COUNTERS), np.int64)

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
        dense, value = check_structures(composition, values)
        structures = value.size
        weight = check_weights(weights, structures)
        flag = check_isolated(isolated, structures)
        entry = np.flatnonzero(dense != 0)  # three times as fast as of the numbers
        element = entry % NUMBER_OF_COLUMNS
        owner = entry // NUMBER_OF_COLUMNS
        count = dense[owner, element]
        check_counts(element, count, owner)

        length = np.bincount(owner, minlength=structures)
        missing = np.isnan(value)
        weightless = weight == 0
        used = ~missing & ~weightless & (length > 0)
        rows = Rows(
            np.concatenate([[0], np.cumsum(length)]),
            element.astype(np.uint8),
            count.astype(np.uint32),
            single_moments(value, weight),
        )
        if flag is None:
            # One entry that counts one atom.
            flag = np.bincount(owner, count, structures) == 1
        for part, chosen in zip(self._parts, (used & ~flag, used & flag), strict=True):
            number = int(np.count_nonzero(chosen))
            if not number:
                continue
            mine = rows if number == structures else rows.take(np.flatnonzero(chosen))
            per_element = np.bincount(mine.element, minlength=NUMBER_OF_COLUMNS)
            part.add(mine, number, per_element)
            if self.keep_structures:
                part.kept.append(mine)
        real = length > 0
        counted = (missing & real, weightless & ~missing & real, ~real)
        numbers = [structures, *(np.count_nonzero(mask) for mask in counted)]
        self._counters += np.array(numbers)

    def merge(self, other: CompositionTable) -> None:
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
            structures, per_element = theirs.structures, theirs.per_element.copy()
            kept = list(theirs.kept)
            if structures:
                mine.add(theirs.compact(), structures, per_element)
            mine.kept.extend(kept)
        self._counters += other._counters

    def __len__(self) -> int:
        """Return the number of distinct compositions, isolated atoms left out."""
        return len(self._parts[0].compact())

    @property
    def structures(self) -> int:
        """Number of structures in the table, isolated atoms left out."""
        return self._parts[0].structures

    @property
    def isolated_structures(self) -> int:
        """Number of isolated atoms in the table."""
        return self._parts[1].structures

    @property
    def counts_seen(self) -> dict[str, int]:
        """Structures received, and left out because of NaN, weight 0 or no atoms."""
        return dict(zip(COUNTERS, self._counters.tolist(), strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes held by the rows (and structures, if kept)."""
        blocks = [part.compact() for part in self._parts]
        blocks += [block for part in self._parts for block in part.kept]
        return sum(block.nbytes for block in blocks)

    def structures_per_element(
        self, *, isolated: bool | None = False
    ) -> NDArray[np.int64]:
        """Return the number of structures that hold each element, shape (119,).

        Args:
            isolated: the part to count: False without isolated atoms, True only
                them, None for both.
        """
        parts = self._chosen(isolated)
        return np.sum([part.per_element for part in parts], axis=0)

    def rows(self, *, isolated: bool | None = False) -> Rows:
        """Return one row per distinct composition, in an order fixed by the set.

        Args:
            isolated: as for `structures_per_element`.
        """
        blocks = [part.compact() for part in self._chosen(isolated)]
        # A periodic cell of one atom and an isolated atom share a composition.
        return blocks[0] if len(blocks) == 1 else group_rows(concatenate(blocks))

    def structure_rows(self, *, isolated: bool | None = False) -> Rows | None:
        """Return one row per structure, or None if they were not kept."""
        if not self.keep_structures:
            return None
        blocks = [part.all_kept() for part in self._chosen(isolated)]
        return sort_rows(concatenate(blocks))

    def _chosen(self, isolated: bool | None) -> list[TablePart]:
        if isolated is None:
            return list(self._parts)
        return [self._parts[isolated]]

    def state(self) -> dict[str, NDArray]:
        """Return the table as plain arrays, for `from_state` or an npz file."""
        state: dict[str, NDArray] = {
            "kind": np.array(KIND),
            "version": np.array(FORMAT_VERSION),
            "keep_structures": np.array(self.keep_structures),
            "counters": self._counters.copy(),
        }
        for name, part in zip(("bulk", "isolated"), self._parts, strict=True):
            state[f"{name}_structures"] = np.array(part.structures)
            state[f"{name}_per_element"] = part.per_element.copy()
            state |= rows_state(part.compact(), name)
            if self.keep_structures:
                state |= rows_state(sort_rows(part.all_kept()), f"{name}_kept")
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> CompositionTable:
        """Return the table that `state` was taken from.

        Raises:
            ValueError: if the state is damaged, of another kind or another version.
        """
        check_state(state, KIND, ("keep_structures", "counters"))
        table = cls(keep_structures=bool(state["keep_structures"]))
        prefixes = ["", "_kept"] if table.keep_structures else [""]
        check_state(
            state,
            KIND,
            [
                f"{name}{suffix}"
                for name in ("bulk", "isolated")
                for suffix in (
                    "_structures",
                    "_per_element",
                    *(f"{p}_{array}" for p in prefixes for array in ROW_ARRAYS),
                )
            ],
        )
        if state["counters"].shape != (len(COUNTERS),):
            raise damaged(KIND, f"with counters of shape {state['counters'].shape}")
        table._counters = np.array(state["counters"], np.int64)
        for name, part in zip(("bulk", "isolated"), table._parts, strict=True):
            part.structures = int(state[f"{name}_structures"])
            part.per_element = np.array(state[f"{name}_per_element"], np.int64)
            part.rows = rows_from_state(state, name)
            if table.keep_structures:
                part.kept = [rows_from_state(state, f"{name}_kept")]
        return table

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to an npz file, in one step."""
        save_state(path, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompositionTable:
        """Read a table that `save` wrote.

        Raises:
            ValueError: if the file is damaged or of another version.
        """
        return cls.from_state(load_state(path))
