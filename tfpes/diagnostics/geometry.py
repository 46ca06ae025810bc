"""Structures whose positions are suspicious: duplicates and atoms too close."""

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.diagnostics.outliers import Outlier
from tfpes.elements import SYMBOLS

CLOSE = 0.6
"""Distance that is noted, relative to the sum of the covalent radii. Bonds that are
strong or hot come down to 0.65."""
SAME = 1e-3
"""Coordinates that differ by less, Å, are the same."""


def isolated_atoms(structures: Structures) -> list[Outlier]:
    """List single atoms without a neighbour."""
    return [
        Outlier(
            int(s),
            "isolated atom",
            0.0,
            f"one {SYMBOLS[structures.atomic_numbers[structures.atom_offsets[s]]]} atom"
            f", nothing within {structures.cutoff:g} Å; left out of the statistics",
        )
        for s in np.flatnonzero(structures.isolated_atoms)
    ]


def close_contacts(structures: Structures) -> list[Outlier]:
    """Find atoms closer than `CLOSE` times the sum of their covalent radii."""
    owner = np.repeat(np.arange(len(structures)), structures.num_edges)
    centre, neighbour = structures.edge_index + structures.atom_offsets[owner]
    shift = structures.edge_shift.astype(np.float32)
    vectors = structures.positions[neighbour] - structures.positions[centre]
    vectors += np.einsum("ei,eij->ej", shift, structures.cell[owner])
    distance = np.linalg.norm(vectors, axis=1)
    radii = covalent_radii[structures.atomic_numbers]
    ratio = distance / (radii[centre] + radii[neighbour])
    close = np.flatnonzero(ratio < CLOSE)
    close = close[np.argsort(ratio[close], kind="stable")]
    # The first of each structure is its closest; it comes in both directions.
    picked, first = np.unique(owner[close], return_index=True)
    pairs = np.bincount(owner[close], minlength=len(structures)) // 2
    found = []
    for s, edge in zip(picked, close[first], strict=True):
        start = structures.atom_offsets[s]
        ends = sorted((int(centre[edge]), int(neighbour[edge])))
        names = " and ".join(
            f"{SYMBOLS[structures.atomic_numbers[end]]} {end - start}" for end in ends
        )
        found.append(
            Outlier(
                int(s),
                "contact",
                float(1 / max(ratio[edge], 1e-9)),
                f"{names}: {distance[edge]:.3f} Å, {ratio[edge]:.2f} of the sum of the "
                f"covalent radii (limit {CLOSE:g}); pairs this close: {pairs[s]}",
            )
        )
    return sorted(found, key=lambda outlier: -outlier.value)


def duplicates(structures: Structures) -> list[Outlier]:
    """Find structures with the atoms, cell and positions of an earlier one.

    Atoms must come in the same order; a shift of the whole structure does not matter.
    """
    groups: dict[bytes, list[int]] = {}
    atoms = np.split(structures.atomic_numbers, structures.atom_offsets[1:-1])
    for s, numbers in enumerate(atoms):
        groups.setdefault(numbers.tobytes(), []).append(s)
    found = []
    for members in groups.values():
        if len(members) > 1:
            found += _duplicates_among(structures, np.array(members))
    return sorted(found, key=lambda outlier: (-outlier.value, outlier.structure))


def _duplicates_among(
    structures: Structures, members: NDArray[np.int64]
) -> list[Outlier]:
    """Compare structures of the same atoms."""
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
    run = np.concatenate([[0], np.cumsum(gap >= SAME)])
    first = np.full(run[-1] + 1, len(members))
    np.minimum.at(first, run, order)
    found = []
    for place, original in sorted(zip(order, first[run], strict=True)):
        if place == original:
            continue
        s, same = members[place], members[original]
        difference = structures.energy[s] - structures.energy[same]
        text = (
            f"energies differ by {difference:.3g} eV"
            if np.isfinite(difference)
            else "one has no energy"
        )
        found.append(
            Outlier(
                int(s),
                "duplicate",
                float(abs(difference)) if np.isfinite(difference) else 0.0,
                f"same atoms, cell and positions as structure {same}; {text}",
            )
        )
    return found
