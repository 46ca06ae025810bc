"""Neighbour lists, by ``vesin``."""

import math
import operator
from collections.abc import Mapping

import numpy as np
import vesin
from ase import Atoms
from ase.cell import Cell
from ase.data import covalent_radii
from numpy.typing import NDArray

MINIMUM_DISTANCE = 0.1
"""Å. Atoms closer than this are taken for a mistake: no bond is near it."""
_FAR = 100.0
"""Å. Float32 coordinates further apart than this would be coarse."""
COVALENT_RADII: NDArray[np.float64] = covalent_radii
"""By atomic number, Å."""


def neighbour_list(
    positions: NDArray, cell: NDArray, pbc: NDArray[np.bool_], cutoff: float
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Find all pairs of atoms within the cutoff, periodic images included.

    Each pair occurs twice, once from either end; an atom is a neighbour of its own
    images. The vector from centre i to neighbour j is
    ``positions[j] + edge_shift @ cell - positions[i]``.

    Args:
        positions: (A, 3), Å.
        cell: (3, 3), lattice vectors as rows, Å.
        pbc: (3,), which of them repeat; any combination, of any size.
        cutoff: Å; 0 for no edges, and no search.

    Returns:
        Centre and neighbour of each edge (P, 2), sorted by centre; edge_shift (P, 3).

    Raises:
        ValueError: for positions or a cell that are not finite, a periodic direction
            without a lattice vector, lattice vectors in one plane, atoms on top of each
            other or out of reach, or a cutoff with too many neighbours.
    """
    _require_finite(positions, cell)
    positions, cell = np.asarray(positions, float), np.asarray(cell, float)
    if not cutoff:
        return np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.int32)
    periodic = pbc.tolist()
    volume, heights = 1.0, [0.0, 0.0, 0.0]
    if any(periodic):
        if not cell[pbc].any(axis=1).all():
            raise ValueError("A periodic direction needs a lattice vector.")
        # vesin takes lattice vectors in all directions; ASE makes those that miss.
        if not all(periodic):
            cell = Cell(cell * pbc[:, None]).complete().array
        volume, heights = _volume_and_heights(cell)
    if not all(periodic):
        extent = np.ptp(positions, axis=0)
        if not any(periodic):
            # vesin takes for ever where the cutoff is much longer than a molecule.
            cutoff = min(cutoff, 1.0 + math.hypot(*extent))
        for direction, length in enumerate(extent.tolist()):
            if not periodic[direction]:
                heights[direction] = length
                volume *= length + cutoff
    _check_bounds(len(positions), volume, heights, periodic, cutoff)
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


def neighbour_lists(
    columns: Mapping[str, NDArray], cutoff: float
) -> dict[str, NDArray]:
    """Find the edges of structures, from their columns.

    Args:
        columns: of :class:`tfpes.data.Structures`.
        cutoff: Å.

    Returns:
        The columns ``edge_index``, ``edge_shift`` and ``edge_offsets``.
    """
    starts = columns["atom_offsets"].tolist()
    positions = np.split(columns["positions"], starts[1:-1])
    pairs, shifts = [np.zeros((0, 2), np.int32)], [np.zeros((0, 3), np.int16)]
    for where, cell in zip(positions, columns["cell"], strict=True):
        found, shift = neighbour_list(where, cell, cell.any(axis=1), cutoff)
        pairs.append(found.astype(np.int32))
        shifts.append(shift.astype(np.int16))
    counts = [len(shift) for shift in shifts]
    if counts[1:] != np.diff(columns["edge_offsets"]).tolist():
        raise ValueError(
            "The neighbour lists of a folder are those that were counted when it was "
            "made. Received: others, from another version of vesin. Make the folder "
            "again, or store them with `--edges`."
        )
    return {
        "edge_index": np.concatenate(pairs).T,
        "edge_shift": np.concatenate(shifts),
        "edge_offsets": np.cumsum(counts, dtype=np.int64),
    }


def geometry(atoms: Atoms) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return positions (A, 3) and cell (3, 3) as columns have them.

    Atoms are near each other and the origin, which energies do not depend on, or
    float32 would be coarse. Neighbour lists are always made from what is returned: they
    are the same when they are found anew in a folder without them.

    Raises:
        ValueError: for positions or a cell that are not finite.
    """
    _require_finite(atoms.positions, atoms.cell.array)
    cell = atoms.cell.array * atoms.pbc[:, None]
    positions = atoms.positions - cells_apart(atoms) @ cell
    # What is too large for float32 is not finite, which a neighbour list refuses.
    with np.errstate(over="ignore"):
        centred = positions - positions.mean(axis=0)
        return centred.astype(np.float32), cell.astype(np.float32)


def cells_apart(atoms: Atoms) -> NDArray[np.int64]:
    """Return the cell (A, 3) of each atom if some are far apart, else 0 for all.

    Raises:
        ValueError: for lattice vectors in one plane.
    """
    if np.ptp(atoms.positions, axis=0).max() <= _FAR or not atoms.pbc.any():
        return np.zeros((len(atoms), 3), np.int64)
    cell = Cell(atoms.cell.array * atoms.pbc[:, None]).complete()
    _volume_and_heights(cell.array)
    fractions = cell.scaled_positions(atoms.positions)
    return np.floor(np.where(atoms.pbc, fractions, 0.0)).astype(np.int64)


def _require_finite(positions: NDArray, cell: NDArray) -> None:
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("Positions and cell must be finite.")


def _volume_and_heights(cell: NDArray) -> tuple[float, list[float]]:
    """Return what is between opposite faces; three times as fast as by NumPy."""
    a, b, c = cell.tolist()
    normals = [_cross(*pair) for pair in ((b, c), (c, a), (a, b))]
    volume = abs(sum(map(operator.mul, a, normals[0])))
    if volume < 1e-9 * math.prod(math.hypot(*vector) for vector in (a, b, c)):
        raise ValueError("Lattice vectors must span a volume.")
    return volume, [volume / math.hypot(*normal) for normal in normals]


def _cross(u: list[float], v: list[float]) -> list[float]:
    return [u[i - 2] * v[i - 1] - u[i - 1] * v[i - 2] for i in range(3)]


def _check_bounds(
    count: int,
    volume: float,
    heights: list[float],
    periodic: list[bool],
    cutoff: float,
) -> None:
    """Raise a ValueError where a list would not fit into memory, or never end.

    Args:
        count: atoms.
        volume: of the cell, or of what is near the atoms, Å³.
        heights: of the cell, or the extent of the atoms where it is not periodic, Å.
        periodic: directions.
        cutoff: Å.
    """
    cutoff = min(cutoff, 1e50)  # nothing overflows
    # vesin goes through as many in directions without images.
    images = math.prod(
        2 * (cutoff / (height if repeats else max(height, 1.0))) + 3
        for height, repeats in zip(heights, periodic, strict=True)
    )
    boxes = [max(height // cutoff, 1.0) for height in heights]
    alone = [h for h, repeats in zip(heights, periodic, strict=True) if not repeats]
    for what, number, most in (
        ("periodic images of an atom within the cutoff", images, 1e6),
        ("pairs of neighbours", 4.19 * cutoff**3 * count**2 / volume, 1e8),
        # vesin merges boxes if there are more, and ends the process if that leaves
        # none in a direction.
        ("boxes of the size of the cutoff", math.prod(boxes), 1e5 * min(boxes) ** 3),
        # It takes for ever beyond.
        (
            "cutoffs from one side of a slab or a wire to the other",
            max(alone, default=0.0) / cutoff if any(periodic) else 0.0,
            1e3,
        ),
    ):
        if not number <= most:
            raise ValueError(
                f"There can be {most:.0e} {what} at most. Received: {number:.0e}, for "
                f"a cutoff of {cutoff:g} Å. Check cutoff, cell and positions (Å)."
            )
