"""Columns of one structure, and of many."""

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from tfpes.data.columns import offsets
from tfpes.data.folder import COLUMNS
from tfpes.data.labels import Keys, candidates, has_volume
from tfpes.data.neighbours import geometry, neighbour_list
from tfpes.data.structures import Structures

_LABELS = ("energy", "forces", "virial", "weight")
_GEOMETRY = (
    "positions", "atomic_numbers", "cell", "edge_index", "edge_shift", "config_type",
)  # fmt: skip
_FROM_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]
"""Where ASE's xx, yy, zz, yz, xz, xy are in the nine of a tensor."""


def row_of(
    atoms: Atoms, place: str, cutoff: float, keys: Keys, neighbours: bool = True
) -> dict[str, Any]:
    """Return columns of one structure, and what may be its labels."""
    numbers, count = atoms.numbers, len(atoms)
    if not count:
        raise ValueError(
            f"A structure needs at least one atom. Received: {place} with none."
        )
    if numbers.min() < 1 or numbers.max() > 118:
        raise ValueError(
            "Atoms must be of an element, 1 <= Z <= 118. Received: "
            f"{place} with Z = {sorted(set(numbers.tolist()))}."
        )
    # One atom is alone, or has neighbours: statistics tell the two apart.
    cutoff = cutoff if neighbours or count == 1 else 0.0
    try:
        positions, cell = geometry(atoms)
        pairs, edge_shift = neighbour_list(positions, cell, atoms.pbc, cutoff)
    except ValueError as error:
        raise ValueError(f"{error} In: {place}.") from None
    labels, names = candidates(atoms, keys, place)
    return {
        "positions": positions,
        "atomic_numbers": numbers,
        "cell": cell[None],
        # Most of the memory: no wider than in the columns.
        "edge_index": pairs.astype(np.int32),
        "edge_shift": edge_shift.astype(np.int16),
        "config_type": np.array([str(atoms.info.get("config_type", ""))]),
        "atoms": count,
        "labels": labels,
        "names": names,
        "place": place,
        # A stress is a derivative per volume, which a molecule does not have.
        "volume": atoms.cell.volume if has_volume(atoms) else np.nan,
    }


def _chosen_labels(row: dict[str, Any], chosen: Keys) -> dict[str, NDArray[np.float64]]:
    """Return the columns of the labels of a structure."""
    found = {
        kind: values[chosen[kind]]
        for kind, values in row["labels"].items()
        if chosen[kind] in values
    }
    for kind in found.keys() & {"stress", "virial"}:
        if found[kind].size == 6:
            found[kind] = found[kind][_FROM_VOIGT]
        found[kind] = found[kind].reshape(1, 3, 3)
    virial = found.get("virial")
    if "stress" in found:
        from_stress = -row["volume"] * found["stress"]
        if virial is None or np.isnan(virial).all():
            virial = from_stress
        else:
            _check_virial(virial, from_stress, row["place"], chosen)
    return {
        "energy": found.get("energy", np.array(np.nan)).reshape(1),
        "forces": found.get("forces", np.full((row["atoms"], 3), np.nan)),
        "virial": np.full((1, 3, 3), np.nan) if virial is None else virial,
    }


def _check_virial(
    virial: NDArray, from_stress: NDArray, place: str, chosen: Keys
) -> None:
    scale = np.abs(virial).max()
    if (np.abs(virial - from_stress) > 0.02 * scale + 1e-3).any():
        raise ValueError(
            f"The virial '{chosen['virial']}' (eV) must be minus volume times the "
            f"stress '{chosen['stress']}' (eV/Å³) if a structure has both. "
            f"Received: {place} with {virial.flat[0]:g} and "
            f"{from_stress.flat[0]:g} eV (xx). Correct one, or leave it out with "
            "`virial_key=None` or `stress_key=None`."
        )


def _pack(rows: list[dict[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """Move columns out of rows, and join them."""
    return {
        name: np.concatenate(
            [row.pop(name) for row in rows], dtype=COLUMNS[name][0], casting="unsafe"
        )
        for name in names
        if rows
    }


def pack_geometry(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Move all but the labels out of rows: most of the memory."""
    counts = {
        f"{of}_offsets": [len(row[name]) for row in rows]
        for of, name in (("atom", "positions"), ("edge", "edge_shift"))
    }
    return _pack(rows, _GEOMETRY) | counts


def pack_labels(rows: list[dict[str, Any]], chosen: Keys) -> dict[str, Any]:
    """Move the labels of the chosen names, and the weights, out of rows."""
    for row in rows:
        row.update(_chosen_labels(row, chosen))
    return _pack(rows, _LABELS)


def join(parts: list[dict[str, Any]], cutoff: float) -> Structures:
    """Return the structures of packed rows, which are empty afterwards."""
    joined: dict[str, Any] = {}
    for name, (_, of, _) in COLUMNS.items():
        joined[name] = np.concatenate([p.pop(name) for p in parts if name in p])
        if of == "offsets":
            joined[name] = offsets(joined[name])
    joined["edge_index"] = joined["edge_index"].T
    return Structures(**joined, cutoff=float(cutoff))


def refuse_unlabelled(count: int, found: set[str], energy_key: str) -> NoReturn:
    """Raise a ValueError for structures without energies."""
    if energy_key in found:
        raise ValueError(
            "At least one structure needs an energy that is a number. Received: "
            f"{count} structures whose {energy_key!r} is NaN or missing. Correct "
            "the labels, or name others with `energy_key` (`--energy-key`)."
        )
    known = ", ".join(sorted(found)) or "none"
    raise ValueError(
        f"At least one structure needs an energy under the name {energy_key!r}. "
        f"Received: {count} structures without one; names found: {known}. "
        "Name the right one with `energy_key` (`--energy-key`), or read "
        "unlabelled structures with `energy_key=None`."
    )
