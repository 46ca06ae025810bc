"""Neighbour lists of a structure that moves."""

import numpy as np
from ase import Atoms
from ase.cell import Cell
from numpy.typing import NDArray

from tfpes.data.neighbours import MINIMUM_DISTANCE, neighbour_list


class VerletList:
    """Edges of a moving structure, from a list that is made anew only when it must be.

    The list holds all pairs within cutoff + skin (Verlet, Phys. Rev. 159, 98 (1967)).
    It serves until a pair that is not on it could have come within the cutoff. With F
    the matrix that maps the old cell to the new one, σ its smallest singular value and
    δ_i what an atom moved beyond ``r_i F``, that cannot be as long as

        σ (cutoff + skin) - 2 max_i ‖δ_i‖ >= cutoff.

    Without a change of the cell, σ = 1 and an atom may move by half of the skin. Of the
    pairs on the list, only those within the cutoff are returned: the edges are the same
    for any skin.

    Args:
        cutoff: Å.
        skin: Å, 0 to make the list anew for each structure.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        """Start without a list."""
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(
                f"`skin` must be a number of Å that is not negative. Received: {skin}."
            )
        self.cutoff = cutoff
        self.skin = skin
        self.builds = 0
        self._reference: Atoms | None = None

    def edges(self, atoms: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Find centre and neighbour of each edge, (P, 2), and edge_shift, (P, 3).

        Raises:
            ValueError: as :func:`tfpes.data.neighbours.neighbour_list`.
        """
        if not self._serves(atoms):
            self._build(atoms)
        positions, pairs = atoms.positions, self._pairs
        vectors = positions[pairs[:, 1]] - positions[pairs[:, 0]]
        vectors += self._shift @ atoms.cell.array
        squared = np.einsum("pk,pk->p", vectors, vectors)
        if len(squared) and squared.min() < MINIMUM_DISTANCE**2:
            self._build(atoms)  # which says that atoms overlap
        near = squared <= self.cutoff**2
        return pairs[near], self._shift[near]

    def _build(self, atoms: Atoms) -> None:
        # Without the old list, should this fail.
        self._reference = None
        pairs, self._shift = neighbour_list(
            atoms.positions, atoms.cell.array, atoms.pbc, self.cutoff + self.skin
        )
        self._pairs = pairs.astype(np.int64)
        self._reference = atoms.copy()
        self._cell = _full_cell(atoms)
        self.builds += 1

    def _serves(self, atoms: Atoms) -> bool:
        old = self._reference
        if (
            old is None
            or len(atoms) != len(old)
            or (atoms.pbc != old.pbc).any()
            or not np.isfinite(atoms.positions).all()
            or not np.isfinite(atoms.cell.array).all()
        ):
            return False
        expected, smallest = old.positions, 1.0
        if (atoms.cell.array != old.cell.array).any():
            change = np.linalg.solve(self._cell, _full_cell(atoms))
            smallest = np.linalg.svd(change, compute_uv=False)[-1]
            expected = old.positions @ change
        moved = atoms.positions - expected
        # A common translation changes no distance.
        moved = moved - moved.mean(axis=0)
        largest = np.sqrt(np.einsum("ik,ik->i", moved, moved).max())
        return smallest * (self.cutoff + self.skin) - 2 * largest >= self.cutoff


def _full_cell(atoms: Atoms) -> NDArray:
    """Return three lattice vectors; those of directions without period are made up."""
    return Cell(atoms.cell.array * atoms.pbc[:, None]).complete().array
