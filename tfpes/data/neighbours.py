"""Neighbour lists, by ``vesin``."""

import numpy as np
import vesin
from ase import Atoms
from ase.cell import Cell
from ase.data import covalent_radii
from numpy.typing import NDArray

MINIMUM_DISTANCE = 0.1
"""Å. Atoms closer than this are taken for a mistake: no bond is near it."""
COVALENT_RADII: NDArray[np.float64] = covalent_radii
"""By atomic number, Å."""


def neighbour_list(
    atoms: Atoms, cutoff: float
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Find all pairs of atoms within the cutoff, periodic images included.

    Each pair occurs twice, once from either end; an atom is a neighbour of its own
    images. The vector from centre i to neighbour j is
    ``positions[j] + edge_shift @ cell - positions[i]``.

    Args:
        atoms: with any combination of periodic directions, of any size.
        cutoff: Å.

    Returns:
        Centre and neighbour of each edge (P, 2), sorted by centre; edge_shift (P, 3).

    Raises:
        ValueError: for positions or a cell that are not finite, a periodic direction
            without a lattice vector, lattice vectors in one plane, or atoms on top of
            each other.
    """
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("Positions and cell must be finite.")
    if pbc.any():
        if not cell[pbc].any(axis=1).all():
            raise ValueError("A periodic direction needs a lattice vector.")
        # vesin takes lattice vectors in all directions; ASE makes those that miss.
        if not pbc.all():
            cell = Cell(cell * pbc[:, None]).complete().array
        if abs(np.linalg.det(cell)) < 1e-9 * np.linalg.norm(cell, axis=1).prod():
            raise ValueError("Lattice vectors must span a volume.")
    neighbours = vesin.NeighborList(
        cutoff=cutoff, full_list=True, sorted=True, n_threads=1
    )
    pairs, shift, distance = neighbours.compute(
        points=positions, box=cell, periodic=pbc, quantities="PSd"
    )
    if len(distance) and distance.min() < MINIMUM_DISTANCE:
        closest = int(distance.argmin())
        raise ValueError(
            f"Atoms must be at least {MINIMUM_DISTANCE} Å apart. Received: atoms "
            f"{pairs[closest, 0]} and {pairs[closest, 1]} at a distance of "
            f"{distance[closest]:.3g} Å."
        )
    return pairs, shift
