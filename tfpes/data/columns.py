"""Rows of structures in flat arrays."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.data.folder import COLUMNS


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
    """What :class:`tfpes.data.Structures` are made of, which see."""

    positions: NDArray[np.float32]
    atomic_numbers: NDArray[np.int32]
    cell: NDArray[np.float32]
    edge_index: NDArray[np.int32]
    edge_shift: NDArray[np.int16]
    energy: NDArray[np.float64]
    forces: NDArray[np.float32]
    virial: NDArray[np.float64]
    atom_offsets: NDArray[np.int64]
    edge_offsets: NDArray[np.int64]
    config_type: NDArray[np.str_]
    weight: NDArray[np.float64]
    cutoff: float

    def __len__(self) -> int:
        """Return the number of structures."""
        return len(self.atom_offsets) - 1

    @property
    def num_atoms(self) -> NDArray[np.int64]:
        """Atoms in each structure, (S,)."""
        return np.diff(self.atom_offsets)

    @property
    def num_edges(self) -> NDArray[np.int64]:
        """Edges in each structure, (S,)."""
        return np.diff(self.edge_offsets)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Atoms and edges of each structure, (S, 2)."""
        return np.stack([self.num_atoms, self.num_edges], axis=1)

    @property
    def isolated_atoms(self) -> NDArray[np.bool_]:
        """Which structures are one atom without a neighbour, (S,)."""
        return (self.num_atoms == 1) & (self.num_edges == 0)

    @property
    def structure_index(self) -> NDArray[np.int64]:
        """The structure of each atom, (A,)."""
        return np.repeat(np.arange(len(self)), self.num_atoms)

    @property
    def has_edges(self) -> bool:
        """Whether edges are there; else, :meth:`with_edges` finds them."""
        return self.edge_shift.shape[0] == self.edge_offsets[-1]

    def each_hash(self) -> Iterator[str]:
        """Yield what tells the geometry of each structure, in memory."""
        columns = [self.atomic_numbers, np.rint(1e3 * self.positions).astype(np.int32)]
        cells = np.rint(1e3 * self.cell).astype(np.int32)
        for s, (start, end) in enumerate(itertools.pairwise(self.atom_offsets)):
            parts = [cells[s], *(column[start:end] for column in columns)]
            data = b"".join(part.tobytes() for part in parts)
            yield hashlib.sha256(data).hexdigest()[:16]

    def columns(
        self,
        picked: NDArray[np.int64],
        names: Iterable[str] = tuple(COLUMNS),
        edges: bool = True,
    ) -> dict[str, NDArray]:
        """Return the rows of columns that belong to some structures, in memory.

        Args:
            picked: indices of structures.
            names: of the columns.
            edges: False for none of the edges.
        """
        rows = {"structures": picked}
        found = {}
        for name in names:
            of = COLUMNS[name][1]
            # Of files, rows are picked more quickly without `np.memmap`.
            values = np.asarray(getattr(self, name))
            if of == "offsets":
                found[name] = offsets(lengths(values, picked))
                continue
            if of not in rows:
                stored = of == "atoms" or (edges and self.has_edges)
                starts = np.asarray(getattr(self, f"{of[:-1]}_offsets"))
                rows[of] = ranges(starts, picked if stored else picked[:0])
            # `take` is quicker, but copies all of what is transposed.
            transposed = name == "edge_index"
            found[name] = (
                values.T[rows[of]].T if transposed else values.take(rows[of], 0)
            )
        return found

    def column(self, name: str, picked: NDArray[np.int64]) -> NDArray:
        """Return the rows of one column that belong to some structures, in memory."""
        return self.columns(picked, [name])[name]


def offsets(counts: ArrayLike) -> NDArray[np.int64]:
    """Return where each of so many rows starts, and where the last one ends."""
    found = np.zeros(np.size(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=found[1:])
    return found


def lengths(starts: NDArray[np.int64], picked: NDArray) -> NDArray[np.int64]:
    """Return how many rows each of the picked structures has."""
    return np.asarray(starts[picked + 1] - starts[picked])


def ranges(starts: NDArray[np.int64], picked: NDArray) -> NDArray[np.int64]:
    """Concatenate ``arange(starts[s], starts[s + 1])`` over the picked s."""
    counts = lengths(starts, picked)
    ends = offsets(counts)
    return np.arange(ends[-1]) + np.repeat(starts[picked] - ends[:-1], counts)
