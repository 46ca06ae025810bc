"""Structures as columns: what was read, and how it becomes batches."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from tfpes.data.packing import Padding, Plan, rank_and_size
from tfpes.data.pipeline import batches


@dataclasses.dataclass(frozen=True, eq=False)
class Structures:
    """Atomic structures with their neighbour lists and labels, as flat arrays.

    The atoms of all S structures are concatenated, and so are their edges.
    A label that is missing is NaN. Make one with :func:`tfpes.data.read`.

    Attributes:
        positions: (A, 3) float32, Å.
        atomic_numbers: (A,) int32.
        cell: (S, 3, 3) float32, lattice vectors as rows, zeros where not periodic, Å.
        edge_index: (2, P) int32, centre and neighbour of each directed edge, counted
            from the first atom of their structure.
        edge_shift: (P, 3) int16, cell offset of the neighbour.
        energy: (S,) float64, eV.
        forces: (A, 3) float32, eV/Å.
        virial: (S, 3, 3) float64, minus volume times stress, eV.
        atom_offsets: (S + 1,) int64, where the atoms of each structure start.
        edge_offsets: (S + 1,) int64, where the edges of each structure start.
        config_type: (S,) strings, as found in the file, or empty.
        weight: (S,) float64, how much a structure counts in losses and statistics.
        cutoff: radius of the neighbour lists, Å.
    """

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
        return len(self.energy)

    def __repr__(self) -> str:
        """Summarize."""
        alone = np.count_nonzero(self.isolated_atoms)
        kind = f" ({alone} isolated atoms)" if alone else ""
        return (
            f"<Structures: {len(self)} structures{kind}, {len(self.positions)} atoms, "
            f"{self.edge_index.shape[1]} edges within {self.cutoff:g} Å>"
        )

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
    def elements(self) -> NDArray[np.int32]:
        """The atomic numbers that occur, ascending."""
        return np.unique(self.atomic_numbers)

    @property
    def structure_index(self) -> NDArray[np.int64]:
        """The structure of each atom, (A,)."""
        return np.repeat(np.arange(len(self)), self.num_atoms)

    @property
    def hashes(self) -> NDArray[np.str_]:
        """What tells geometries apart, to a thousandth of an Å, (S,)."""
        columns = [self.atomic_numbers, np.rint(1e3 * self.positions).astype(np.int32)]
        cells = np.rint(1e3 * self.cell).astype(np.int32)
        found = []
        for s, (start, end) in enumerate(itertools.pairwise(self.atom_offsets)):
            parts = [cells[s], *(column[start:end] for column in columns)]
            data = b"".join(part.tobytes() for part in parts)
            found.append(hashlib.sha256(data).hexdigest()[:16])
        return np.array(found, str)

    def __getitem__(self, index: Any) -> "Structures":
        """Select structures by a slice, an index, an index array or a mask."""
        picked = np.atleast_1d(np.arange(len(self))[index])
        atoms = ranges(self.atom_offsets, picked)
        edges = ranges(self.edge_offsets, picked)
        return Structures(
            positions=self.positions[atoms],
            atomic_numbers=self.atomic_numbers[atoms],
            cell=self.cell[picked],
            edge_index=self.edge_index[:, edges],
            edge_shift=self.edge_shift[edges],
            energy=self.energy[picked],
            forces=self.forces[atoms],
            virial=self.virial[picked],
            atom_offsets=offsets(self.num_atoms[picked]),
            edge_offsets=offsets(self.num_edges[picked]),
            config_type=self.config_type[picked],
            weight=self.weight[picked],
            cutoff=self.cutoff,
        )

    def split(
        self,
        fractions: Sequence[float],
        seed: int = 0,
        cover_elements: bool = False,
    ) -> tuple["Structures", ...]:
        """Divide at random.

        Args:
            fractions: the share of each part; they sum to at most 1.
            seed: of the shuffle.
            cover_elements: move structures with elements that the first part would
                lack into it.

        Returns:
            One ``Structures`` for each fraction, disjoint, none of them empty.

        Raises:
            ValueError: if the fractions do not make sense, or a part would be empty.
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
        ends = np.round(np.cumsum(shares) * len(self)).astype(int)
        # Small parts get one structure, at the expense of the first.
        counts = np.maximum(np.diff(ends, prepend=0), 1)
        counts[0] -= max(counts.sum() - len(self), 0)
        order = np.random.default_rng(seed).permutation(len(self))
        parts = np.split(order, np.cumsum(counts))[: len(counts)]
        if cover_elements:
            parts = self._cover_elements(parts)
        if counts[0] < 1 or min(map(len, parts)) == 0:
            raise ValueError(
                f"Each part of a split needs at least one structure. Received: "
                f"{len(self)} structures and `fractions` {tuple(fractions)}, which "
                f"leaves parts of {[len(part) for part in parts]}. Use more "
                "structures or fewer parts."
            )
        return tuple(self[np.sort(part)] for part in parts)

    def _cover_elements(self, parts: list[NDArray]) -> list[NDArray]:
        """Move structures with elements that the first part lacks into it."""
        elements = np.split(self.atomic_numbers, self.atom_offsets[1:-1])
        covered = set().union(*(elements[s].tolist() for s in parts[0]))
        moved: list[int] = []
        for part in parts[1:]:
            for s in part:
                if not covered.issuperset(elements[s].tolist()):
                    covered.update(elements[s].tolist())
                    moved.append(int(s))
        rest = [np.setdiff1d(part, moved) for part in parts[1:]]
        return [np.append(parts[0], np.array(moved, dtype=int)), *rest]

    def batches(
        self,
        batch_size: int = 16,
        shuffle: bool = False,
        seed: int | None = None,
        labels: Sequence[str] = ("energy", "forces"),
        epoch: tf.Variable | None = None,
        isolated_atoms: str = "exclude",
        share: Any = None,
    ) -> tf.data.Dataset:
        """Make a ``tf.data.Dataset`` of padded batches ``(inputs, targets)``.

        Where a :attr:`weight` is not 1, they are ``(inputs, targets, weights)``, the
        weights a dict like the targets, of each structure or atom.

        Structures are grouped so that all batches are nearly the same size (see
        ``tfpes.data.packing.balanced_batches``), *not* in the order in which they
        come, and padded to one of at most four fixed shapes; :meth:`padding` tells
        what that costs. The number of batches is known.

        Args:
            batch_size: structures in a batch; some batches have fewer.
            shuffle: group the structures anew each time the dataset is iterated.
            seed: of the shuffle; the n-th epoch is the same in each run.
            labels: keys of ``targets``, of ``"energy"``, ``"forces"``, ``"virial"``.
            epoch: an integer ``tf.Variable`` that tells which epoch of the shuffle an
                iteration is, for training that goes on in the middle of a run; by
                default, iterations are counted.
            isolated_atoms: ``"exclude"`` or ``"include"`` single atoms without
                neighbours: their energies lie a cohesive energy away from all others,
                far outside the distribution that losses are scaled by.
            share: a :class:`tfpes.distribute.Cluster`, each process of which then gets
                its part of each batch. A batch of all of them together holds the same
                structures whatever their number; a part of it may be empty.

        Returns:
            A ``tf.data.Dataset`` with known cardinality.

        Raises:
            TypeError: for a share that is no cluster.
            ValueError: for an empty set, a bad batch size or an unknown label; for a
                share, also without a seed, or with fewer structures than processes.
        """
        used = self._used(isolated_atoms)
        part = (
            (0, 1) if share is None else rank_and_size(share, batch_size, shuffle, seed)
        )
        plan = Plan(used.sizes, batch_size, shuffle, seed, part)
        return batches(vars(used), self.cutoff, plan, labels, epoch)

    def padding(
        self,
        batch_size: int = 16,
        shuffle: bool = False,
        isolated_atoms: str = "exclude",
    ) -> Padding:
        """Report the shapes of :meth:`batches` and what is wasted on padding."""
        sizes = self._used(isolated_atoms).sizes
        return Plan(sizes, batch_size, shuffle, seed=0).padding()

    def _used(self, isolated_atoms: str) -> "Structures":
        if isolated_atoms not in ("exclude", "include"):
            raise ValueError(
                "`isolated_atoms` must be 'exclude' or 'include'. Received: "
                f"{isolated_atoms!r}."
            )
        alone = self.isolated_atoms
        if isolated_atoms == "include" or not alone.any():
            return self
        if alone.all():
            raise ValueError(
                "Isolated atoms are in no batch. Received: nothing but "
                f"{len(self)} of them, within {self.cutoff:g} Å. Check the cutoff and "
                'the units (Å), or pass `isolated_atoms="include"`.'
            )
        return self[~alone]


def offsets(counts: ArrayLike) -> NDArray[np.int64]:
    """Return where each of so many rows starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def ranges(starts: NDArray[np.int64], picked: NDArray) -> NDArray[np.int64]:
    """Concatenate ``arange(starts[s], starts[s + 1])`` over the picked s."""
    counts = np.diff(starts)[picked]
    shift = starts[picked] - offsets(counts)[:-1]
    return np.arange(counts.sum()) + np.repeat(shift, counts)
