"""Structures as columns: what was read, and how it becomes batches."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data import folder, splitting
from tfpes.data.columns import Columns, lengths, offsets
from tfpes.data.neighbours import neighbour_lists
from tfpes.data.packing import Padding
from tfpes.data.pipeline import batches
from tfpes.data.plan import Plan, rank_and_size

_BLOCK = 4096
"""Structures that are read at a time where all are gone through."""


@dataclasses.dataclass(frozen=True, eq=False)
class Structures(Columns):
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

    def __repr__(self) -> str:
        """Summarize."""
        alone = np.count_nonzero(self.isolated_atoms)
        kind = f" ({alone} isolated atoms)" if alone else ""
        atoms, edges = self.atom_offsets[-1], self.edge_offsets[-1]
        return (
            f"<Structures: {len(self)} structures{kind}, {atoms} atoms, {edges} edges "
            f"within {self.cutoff:g} Å>"
        )

    @property
    def elements(self) -> NDArray[np.int32]:
        """The atomic numbers that occur, ascending."""
        found = [np.unique(some.atomic_numbers) for some in self.blocks()]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *found]))

    @property
    def hashes(self) -> NDArray[np.str_]:
        """What tells geometries apart, to a thousandth of an Å, (S,)."""
        return np.array([x for some in self.blocks() for x in some.each_hash()], str)

    def blocks(self, edges: bool = False) -> Iterator["Structures"]:
        """Yield all structures in memory, some at a time, with edges or without."""
        for start in range(0, len(self), _BLOCK):
            picked = np.arange(start, min(start + _BLOCK, len(self)))
            yield self.take(picked, edges)

    def __getitem__(self, index: Any) -> "Structures":
        """Select structures by a slice, an index, an index array or a mask.

        Of a folder, only what is asked for later is read.
        """
        everything = np.arange(len(self))
        picked = np.atleast_1d(everything[index])
        if np.array_equal(picked, everything):
            return self
        if self.is_mapped:
            return _Selection(self, picked)
        return self.take(picked)

    @property
    def is_mapped(self) -> bool:
        """Whether columns are in a folder, not in memory."""
        return isinstance(self.positions, np.memmap)

    @property
    def whole_folder(self) -> pathlib.Path | None:
        """The folder of which these are all structures, as it weights them."""
        file, weight = self.positions, self.weight
        if isinstance(file, np.memmap) and isinstance(weight, np.memmap):
            return pathlib.Path(str(file.filename)).parent
        return None

    def take(self, picked: NDArray, edges: bool = True) -> "Structures":
        """Return some structures in memory, with their edges or without."""
        return Structures(**self.columns(picked, edges=edges), cutoff=self.cutoff)

    def with_edges(self) -> "Structures":
        """Return the structures with their edges, in memory where these are found."""
        if self.has_edges:
            return self
        columns = {name: getattr(self, name) for name in folder.COLUMNS}
        columns |= neighbour_lists(columns, self.cutoff)
        return Structures(**columns, cutoff=self.cutoff)

    def with_weight(self, weight: NDArray[np.float64]) -> "Structures":
        """Return the structures with other weights, (S,)."""
        return dataclasses.replace(self, weight=weight)

    def save(self, path: str | pathlib.Path, edges: bool = True) -> None:
        """Write a folder that :func:`tfpes.data.open` maps into memory.

        Files of NumPy arrays, one for each column, and an index, ``structures.json``.
        The folder is written as a whole, or not at all.

        Args:
            path: of the folder; one of structures that is there is replaced.
            edges: whether to write the edges, too: 14 bytes each, and in a crystal with
                a cutoff of 5 Å, nine tenths of everything. Without them, batches find
                them while a model trains.

        Raises:
            FileExistsError: if something else is there.
        """
        folder.write(path, map(vars, self.blocks(edges)), self.cutoff, edges)

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
        parts = splitting.divide(len(self), fractions, seed)
        if cover_elements:
            parts = splitting.cover_elements(parts, self._elements_of)
        if min(map(len, parts)) == 0:
            raise ValueError(
                f"Each part of a split needs at least one structure. Received: "
                f"{len(self)} structures and `fractions` {tuple(fractions)}, which "
                f"leaves parts of {[len(part) for part in parts]}. Use more "
                "structures or fewer parts."
            )
        return tuple(self[np.sort(part)] for part in parts)

    def _elements_of(self, picked: NDArray) -> tuple[NDArray, NDArray]:
        owner = np.repeat(picked, lengths(self.atom_offsets, picked))
        return self.column("atomic_numbers", picked), owner

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
        what that costs. More than about 1024 structures are grouped window by window;
        what fits no shape then gets a larger one. The number of batches is known.

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
        part, guard = (0, 1), None
        if share is not None:
            part = rank_and_size(share, batch_size, shuffle, seed)
            guard = share.refuse_alone if share.size > 1 else None
        plan = Plan(self.sizes[used], batch_size, shuffle, seed, part)
        weighted = bool((self.weight[used] != 1).any())

        def load(picked: NDArray) -> dict[str, Any]:
            return dict(vars(self.take(used[picked]).with_edges()))

        return batches(load, self.cutoff, plan, labels, weighted, epoch, guard)

    def padding(
        self,
        batch_size: int = 16,
        shuffle: bool = False,
        isolated_atoms: str = "exclude",
    ) -> Padding:
        """Report the shapes of :meth:`batches` and what is wasted on padding."""
        sizes = self.sizes[self._used(isolated_atoms)]
        return Plan(sizes, batch_size, shuffle, seed=0).padding()

    def _used(self, isolated_atoms: str) -> NDArray[np.int64]:
        if isolated_atoms not in ("exclude", "include"):
            raise ValueError(
                "`isolated_atoms` must be 'exclude' or 'include'. Received: "
                f"{isolated_atoms!r}."
            )
        alone = self.isolated_atoms & (isolated_atoms == "exclude")
        if alone.any() and alone.all():
            raise ValueError(
                "Isolated atoms are in no batch. Received: nothing but "
                f"{len(self)} of them, within {self.cutoff:g} Å. Check the cutoff and "
                'the units (Å), or pass `isolated_atoms="include"`.'
            )
        return np.flatnonzero(~alone)


class _Selection(Structures):
    """Structures of a folder: columns are read when they are asked for."""

    _whole: Structures
    _picked: NDArray[np.int64]

    def __init__(
        self, whole: Structures, picked: NDArray, weight: NDArray | None = None
    ) -> None:
        vars(self).update(
            _whole=whole,
            _picked=picked,
            cutoff=whole.cutoff,
            weight=whole.weight[picked] if weight is None else weight,
            atom_offsets=offsets(lengths(whole.atom_offsets, picked)),
            edge_offsets=offsets(lengths(whole.edge_offsets, picked)),
        )

    def __getattr__(self, name: str) -> NDArray:
        if name not in folder.COLUMNS:
            raise AttributeError(name)
        return self._whole.column(name, self._picked)

    is_mapped = True
    whole_folder = None

    @property
    def has_edges(self) -> bool:
        return self._whole.has_edges

    def columns(
        self,
        picked: NDArray[np.int64],
        names: Iterable[str] = tuple(folder.COLUMNS),
        edges: bool = True,
    ) -> dict[str, NDArray]:
        found = self._whole.columns(self._picked[picked], names, edges)
        return found | ({"weight": self.weight[picked]} if "weight" in found else {})

    def __getitem__(self, index: Any) -> Structures:
        picked = np.atleast_1d(np.arange(len(self))[index])
        return _Selection(self._whole, self._picked[picked], self.weight[picked])

    def with_weight(self, weight: NDArray[np.float64]) -> Structures:
        return _Selection(self._whole, self._picked, weight)
