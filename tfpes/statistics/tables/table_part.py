"""One part of a composition table: rows, and rows that wait to be merged."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.tables.rows import (
    MOMENTS,
    Rows,
    concatenate,
    empty_rows,
    group_rows,
)
from tfpes.statistics.tables.storage import damaged

# Rows wait unmerged up to this many, so that many small batches cost one sort.
PENDING_ROWS = 65536
KIND = "CompositionTable"
ROW_ARRAYS = ("start", "element", "count", "moments")


class TablePart:
    """Rows already merged, rows that wait, and what they came from."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows = empty_rows()
        self.pending: list[Rows] = []
        self.pending_rows = 0
        self.kept: list[Rows] = []
        self.structures = 0
        self.per_element = np.zeros(NUMBER_OF_COLUMNS, np.int64)

    def add(self, rows: Rows, structures: int, per_element: NDArray[np.int64]) -> None:
        """Add rows, and the number of structures (holding each element) in them."""
        self.pending.append(rows)
        self.pending_rows += len(rows)
        self.structures += structures
        self.per_element += per_element
        # Growing with the table keeps the cost of merging proportional to the data.
        if self.pending_rows > max(PENDING_ROWS, len(self.rows) // 4):
            self.compact()

    def compact(self) -> Rows:
        """Merge what waits and return all rows."""
        if self.pending:
            self.rows = group_rows(concatenate([self.rows, *self.pending]))
            self.pending, self.pending_rows = [], 0
        return self.rows

    def all_kept(self) -> Rows:
        """Return the structures kept, in the order of arrival."""
        if len(self.kept) != 1:
            self.kept = [concatenate([empty_rows(), *self.kept])]
        return self.kept[0]


def rows_state(rows: Rows, prefix: str) -> dict[str, NDArray]:
    """Return the arrays of a block of rows, named with a prefix."""
    return {f"{prefix}_{name}": getattr(rows, name).copy() for name in ROW_ARRAYS}


def rows_from_state(state: Mapping[str, NDArray], prefix: str) -> Rows:
    """Return the rows of a state after checking that they are a valid block."""
    types = (np.int64, np.uint8, np.uint32, np.float64)
    arrays = [
        np.array(state[f"{prefix}_{name}"], dtype)
        for name, dtype in zip(ROW_ARRAYS, types, strict=True)
    ]
    rows = Rows(*arrays)
    number, entries = rows.start.size - 1, rows.element.size
    if (
        number < 0
        or rows.start[0] != 0
        or rows.start[-1] != entries
        or np.any(np.diff(rows.start) < 1)
        or rows.count.shape != (entries,)
        or rows.moments.shape != (MOMENTS, number)
    ):
        raise damaged(
            "CompositionTable", f"whose '{prefix}' arrays have shapes that do not fit"
        )
    if (
        not np.isfinite(rows.moments).all()
        or np.any(rows.weight <= 0)
        or np.any(rows.squared_deviations < 0)
        or not rows.count.all()
        or not rows.element.all()
        or np.any(rows.element >= NUMBER_OF_COLUMNS)
    ):
        raise damaged(
            "CompositionTable", f"whose '{prefix}' arrays hold impossible values"
        )
    return rows
