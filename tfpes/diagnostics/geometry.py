"""Structures whose positions are suspicious: duplicates and atoms too close."""

import numpy as np
from numpy.typing import NDArray

from tfpes.data.neighbours import COVALENT_RADII
from tfpes.data.structures import Structures
from tfpes.diagnostics.outliers import Outlier, listed
from tfpes.elements import SYMBOLS

_CLOSE = 0.6
"""Distance that is noted, relative to the sum of the covalent radii. Bonds that are
strong or hot come down to 0.65."""
# Energies that differ by less, eV/atom, are the same.
_SAME_ENERGY = 1e-3
# Coordinates that differ by less, Å, are the same.
_SAME = 1e-3


def isolated_atoms(structures: Structures) -> list[Outlier]:
    """List single atoms without a neighbour."""
    numbers, first = structures.atomic_numbers, structures.atom_offsets
    return listed(
        "isolated atom",
        np.zeros(len(structures)),
        structures.isolated_atoms,
        lambda s: (
            f"one {SYMBOLS[numbers[first[s]]]} atom, nothing within "
            f"{structures.cutoff:g} Å; left out of the statistics"
        ),
    )


def close_contacts(structures: Structures) -> list[Outlier]:
    """Find atoms closer than `_CLOSE` times the sum of their covalent radii."""
    owner = np.repeat(np.arange(len(structures)), structures.num_edges)
    centre, neighbour = structures.edge_index + structures.atom_offsets[owner]
    shift = structures.edge_shift.astype(np.float32)
    vectors = structures.positions[neighbour] - structures.positions[centre]
    vectors += np.einsum("ei,eij->ej", shift, structures.cell[owner])
    distance = np.linalg.norm(vectors, axis=1)
    radii = COVALENT_RADII[structures.atomic_numbers]
    ratio = distance / (radii[centre] + radii[neighbour])
    close = np.flatnonzero(ratio < _CLOSE)
    close = close[np.argsort(ratio[close], kind="stable")]
    # The first of each structure is its closest; it comes in both directions.
    picked, first = np.unique(owner[close], return_index=True)
    pairs = np.bincount(owner[close], minlength=len(structures)) // 2
    closest = dict(zip(picked.tolist(), close[first].tolist(), strict=True))
    values = np.zeros(len(structures))
    values[picked] = 1 / np.maximum(ratio[close[first]], 1e-9)

    def why(s: int) -> str:
        edge = closest[int(s)]
        names = " and ".join(
            f"{SYMBOLS[structures.atomic_numbers[end]]} "
            f"{end - structures.atom_offsets[s]}"
            for end in sorted((centre[edge], neighbour[edge]))
        )
        return (
            f"{names}: {distance[edge]:.3f} Å, {ratio[edge]:.2f} of the sum of the "
            f"covalent radii (limit {_CLOSE:g}); pairs this close: {pairs[s]}"
        )

    return listed("contact", values, values > 0, why)


def duplicates(structures: Structures) -> list[Outlier]:
    """Find structures with the atoms, cell and positions of an earlier one.

    Atoms must come in the same order; a shift of the whole structure does not matter.
    Those with another energy come first, as a kind of their own.
    """
    groups: dict[bytes, list[int]] = {}
    atoms = np.split(structures.atomic_numbers, structures.atom_offsets[1:-1])
    for s, numbers in enumerate(atoms):
        groups.setdefault(numbers.tobytes(), []).append(s)
    # The structure that each is like; its own index for most.
    first = np.arange(len(structures))
    for members in groups.values():
        first[members] = np.array(members)[_first_alike(structures, np.array(members))]
    difference = structures.energy - structures.energy[first]
    known = np.isfinite(difference)

    def why(s: int) -> str:
        text = f"energies differ by {difference[s]:.3g} eV"
        return (
            f"same atoms, cell and positions as structure {first[s]}; "
            f"{text if known[s] else 'one has no energy'}"
        )

    values = np.where(known, np.abs(difference), 0.0)
    repeated = first < np.arange(len(structures))
    other = repeated & (values > _SAME_ENERGY * structures.num_atoms)
    return [
        *listed("two energies", values, other, why),
        *listed("duplicate", values, repeated & ~other, why),
    ]


def _first_alike(
    structures: Structures, members: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return which of the structures of the same atoms each is first met as."""
    size = structures.num_atoms[members[0]]
    rows = structures.atom_offsets[members][:, None] + np.arange(size)
    coordinates = np.concatenate(
        [
            structures.cell[members].reshape(len(members), 9),
            structures.positions[rows].reshape(len(members), -1),
        ],
        axis=1,
        dtype=np.float64,
    )
    # Equal points are neighbours on any line, and on a random one few others are.
    direction = np.random.default_rng(0).normal(size=coordinates.shape[1])
    order = np.argsort(coordinates @ direction, kind="stable")
    gap = np.abs(np.diff(coordinates[order], axis=0)).max(axis=1)
    run = np.concatenate([[0], np.cumsum(gap >= _SAME)])
    first = np.full(run[-1] + 1, len(members))
    np.minimum.at(first, run, order)
    alike = np.empty(len(members), int)
    alike[order] = first[run]
    return alike
