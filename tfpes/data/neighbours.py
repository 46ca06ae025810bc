"""Neighbour lists, by ``vesin``."""

import numpy as np
import vesin
from ase import Atoms
from ase.cell import Cell
from ase.data import covalent_radii
from numpy.typing import NDArray

MINIMUM_DISTANCE = 0.1
"""Å. Atoms closer than this are taken for a mistake: no bond is near it."""
_FAR = 32
"""Cells. Float32 coordinates further apart than this would be coarse."""
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
            without a lattice vector, lattice vectors in one plane, atoms on top of each
            other or out of reach, or a cutoff with too many neighbours.
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
    else:
        # vesin takes for ever where the cutoff is much longer than a molecule.
        cutoff = min(cutoff, 1.0 + float(np.linalg.norm(np.ptp(positions, axis=0))))
    _check_bounds(positions, cell, pbc, cutoff)
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


def near_each_other(
    atoms: Atoms, pairs: NDArray, shift: NDArray
) -> tuple[NDArray[np.float64], NDArray]:
    """Move atoms that left their cell far behind back, with the edges they have.

    Args:
        atoms: of the edges.
        pairs: (P, 2).
        shift: (P, 3), cell offset of the neighbour.

    Returns:
        Positions (A, 3) and offsets (P, 3) that give the same vectors.
    """
    if not len(shift) or max(-shift.min(), shift.max()) <= _FAR:
        return atoms.positions, shift
    fractions = atoms.cell.scaled_positions(atoms.positions)
    cells = np.floor(np.where(atoms.pbc, fractions, 0.0)).astype(np.int64)
    return (
        atoms.positions - cells @ atoms.cell.array,
        shift + cells[pairs[:, 1]] - cells[pairs[:, 0]],
    )


def _check_bounds(
    positions: NDArray, cell: NDArray, pbc: NDArray, cutoff: float
) -> None:
    """Raise a ValueError where a list would not fit into memory, or never end."""
    heights = extent = np.ptp(positions, axis=0)
    volume = 1.0
    if pbc.any():
        volume = abs(np.linalg.det(cell))
        areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
        heights = np.where(pbc, volume / areas, extent)
    volume *= (extent + cutoff)[~pbc].prod()
    cutoff = min(cutoff, 1e50)  # nothing overflows
    # vesin goes through as many in directions without images.
    images = (2 * np.ceil(cutoff / np.maximum(heights, ~pbc)) + 1).prod()
    count = len(positions)
    edges = count * min(count * images, 4.19 * cutoff**3 * count / volume)
    boxes = np.maximum(heights // cutoff, 1.0)
    length = (extent / cutoff)[~pbc].max(initial=0.0) * pbc.any()
    for what, number, most in (
        ("periodic images of an atom within the cutoff", images, 1e6),
        ("pairs of neighbours", edges, 1e8),
        # vesin merges boxes if there are more, and ends the process if that leaves
        # none in a direction.
        ("boxes of the size of the cutoff", boxes.prod(), 1e5 * boxes.min() ** 3),
        # It takes for ever beyond.
        ("cutoffs from one side of a slab or a wire to the other", length, 1e3),
    ):
        if not number <= most:
            raise ValueError(
                f"There can be {most:.0e} {what} at most. Received: {number:.0e}, for "
                f"a cutoff of {cutoff:g} Å. Check cutoff, cell and positions (Å)."
            )
