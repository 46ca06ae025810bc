"""Standardized labels, or errors, by size, element and kind of structure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.elements import SYMBOLS
from tfpes.evaluation import compositions, size_bins


def by_size(
    structures: Structures, energy: NDArray, forces: NDArray
) -> list[dict[str, Any]]:
    """Return a row for each bin of sizes; see :func:`row`."""
    size, owner = structures.num_atoms, structures.structure_index
    rows = []
    for low, high in size_bins(size):
        chosen = (size >= low) & (size <= high)
        name = str(low) if low == high else f"{low}-{high}"
        rows.append(row(name, energy, forces, chosen, chosen[owner]))
    return rows


def by_element(
    structures: Structures, energy: NDArray, forces: NDArray
) -> list[dict[str, Any]]:
    """Return a row for each element: structures that hold it, its own atoms."""
    counts = compositions(structures)
    return [
        row(
            SYMBOLS[z],
            energy,
            forces,
            counts[:, z] > 0,
            structures.atomic_numbers == z,
        )
        for z in structures.elements
    ]


def by_config_type(
    structures: Structures, energy: NDArray, forces: NDArray
) -> list[dict[str, Any]]:
    """Return a row for each ``config_type``, most frequent first."""
    names, number = np.unique(structures.config_type, return_inverse=True)
    owner = structures.structure_index
    rows = [
        row(str(name), energy, forces, number == k, (number == k)[owner])
        for k, name in enumerate(names)
    ]
    return sorted(rows, key=lambda entry: -entry["structures"])


def row(
    name: str,
    energy: NDArray,
    forces: NDArray,
    chosen: NDArray[np.bool_],
    atoms: NDArray[np.bool_],
) -> dict[str, Any]:
    """Summarise some structures.

    Args:
        name: of the group.
        energy: (S,), standardized energies or errors, NaN where there is none.
        forces: (A, 3), likewise.
        chosen: which structures, (S,).
        atoms: which atoms, (A,).

    Returns:
        ``name, structures, atoms`` with their shares, and ``energy_mean, energy_rms,
        force_rms``, None without labels.
    """
    values = energy[chosen]
    values = values[np.isfinite(values)]
    vectors = forces[atoms]
    vectors = vectors[np.isfinite(vectors)]
    return {
        "name": name,
        "structures": int(chosen.sum()),
        "structure_share": float(chosen.mean()),
        "atoms": int(atoms.sum()),
        "atom_share": float(atoms.mean()),
        "energies": values.size,
        "energy_mean": float(values.mean()) if values.size else None,
        "energy_rms": _root_mean_square(values),
        "force_rms": _root_mean_square(vectors),
    }


def _root_mean_square(values: NDArray) -> float | None:
    if not values.size:
        return None
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
