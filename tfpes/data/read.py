"""From files of structures, or ASE objects, to columns."""

import io
import lzma
import math
import pathlib
from typing import Any, NoReturn

import numpy as np
from ase import Atoms
from ase.io import iread
from numpy.typing import NDArray
from rich.progress import Progress

from tfpes.data.embedded import EMBEDDED, embedded_path
from tfpes.data.labels import (
    NAMES,
    Keys,
    candidates,
    check_keys,
    choose,
    has_volume,
    is_weighted,
    summary,
    weight_of,
)
from tfpes.data.neighbours import near_each_other, neighbour_list
from tfpes.data.sources import Source, iterate
from tfpes.data.structures import Structures, offsets
from tfpes.terminal import PlainConsole

# Of the columns that are gathered from structures.
_DTYPES: dict[str, type] = {
    "positions": np.float32, "atomic_numbers": np.int32, "cell": np.float32,
    "edge_index": np.int32, "edge_shift": np.int16, "energy": np.float64,
    "forces": np.float32, "virial": np.float64, "config_type": np.str_,
    "weight": np.float64,
}  # fmt: skip
_FROM_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]
"""Where ASE's xx, yy, zz, yz, xz, xy are in the nine of a tensor."""


def read(
    source: Source,
    cutoff: float,
    *,
    energy_key: str | None = "energy",
    forces_key: str | None = "forces",
    stress_key: str | None = "stress",
    virial_key: str | None = "virial",
    weight_key: str | None = "config_weight",
    verbose: bool = True,
) -> Structures:
    """Read structures, their labels and their neighbour lists.

    Labels are taken from the results of the attached calculator, else from
    ``atoms.info`` or ``atoms.arrays``. A structure without a label gets NaN. The
    virial is its label, else ``-volume * stress``.

    The default of a name stands for the usual ones as well: where no structure has
    ``forces``, ``REF_forces``, ``dft_forces``, ``force`` and the like are taken.

    Args:
        source: a path of any file that ASE reads, several paths, or an iterable of
            ``ase.Atoms``. Units eV, Å, eV/Å, and eV/Å³ with ASE's sign of the stress.
        cutoff: radius of the neighbour lists, Å.
        energy_key: name of the energies; None to read structures without labels.
        forces_key: name of the forces, or None.
        stress_key: name of the stress (Voigt or 3 × 3), or None.
        virial_key: name of the virial ``-dE/dε``, eV (Voigt or 3 × 3), or None.
        weight_key: name in ``atoms.info`` of the weight of a structure in losses and
            statistics, 1 where it has none; None for 1 everywhere.
        verbose: show a progress bar, and say which labels and how many isolated atoms
            were found.

    Returns:
        The structures, in the order of the source.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be read, holds no structure or no energy, no label
            of a given name or several that could be meant; or if a structure has no
            atoms, atoms on top of each other, an unknown element, a NaN position or an
            infinite label, or a weight that is no number, or negative. The message
            names the structure.

    Example:
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> water.info["dft_energy"] = -14.2
        >>> read([water], cutoff=5.0, energy_key="dft_energy", verbose=False)
        <Structures: 1 structures, 3 atoms, 6 edges within 5 Å>
    """
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ValueError(
            f"`cutoff` must be a positive number of Å. Received: {cutoff}."
        )
    keys = {
        "energy": energy_key,
        "forces": forces_key,
        "stress": stress_key,
        "virial": virial_key,
    }
    check_keys(keys)
    rows = []
    # The number of structures is known only at the end: the bar counts.
    console = PlainConsole(stderr=True)
    with Progress(
        "{task.description}", "{task.completed} structures",
        console=console, transient=True, disable=not (verbose and console.is_terminal),
    ) as progress:  # fmt: skip
        task = progress.add_task("Reading", total=None)
        for place, atoms in iterate(source):
            rows.append(_row(atoms, place, cutoff, keys))
            rows[-1]["weight"] = weight_of(atoms, weight_key, place)
            progress.advance(task)
    if not rows:
        raise ValueError(
            f"`read` needs at least one structure. Received: none in {source!r}."
        )
    labels = [row["labels"] for row in rows]
    chosen = choose(labels, keys, set().union(*(row["names"] for row in rows)))
    for row in rows:
        row.update(_chosen_labels(row, chosen))
    if energy_key is not None and not any(np.isfinite(row["energy"]) for row in rows):
        _refuse_unlabelled(rows, energy_key)
    weighted = is_weighted((row["names"] for row in rows), weight_key)
    structures = _join(rows, cutoff)
    if verbose and any(keys.values()):
        console.print(summary(labels, chosen))
        if weighted:
            low, high = structures.weight.min(), structures.weight.max()
            console.print(f"Weights ({weight_key}): {low:g} to {high:g}.")
        if alone := np.count_nonzero(structures.isolated_atoms):
            console.print(
                f"{alone} isolated atom(s): in no statistics, no loss and no metric, "
                "since their energies lie a cohesive energy away from all others."
            )
    return structures


def load(name: str, cutoff: float = 5.0, *, verbose: bool = False) -> Structures:
    """Load an embedded data set; see ``help(tfpes.data.embedded)``.

    Args:
        name: ``"molecules"`` or ``"alloys"``.
        cutoff: radius of the neighbour lists, Å.
        verbose: show a progress bar.

    Returns:
        The structures.

    Raises:
        ValueError: for an unknown name.
    """
    # ASE seeks back at every frame, for which LZMA starts at the beginning.
    with lzma.open(embedded_path(name), "rt") as file:
        frames = iread(io.StringIO(file.read()), ":", format="extxyz")
        return read(frames, cutoff, verbose=verbose)


def read_or_load(
    source: Source, cutoff: float, *, verbose: bool = True, **keys: str | None
) -> Structures:
    """Load the embedded data set of that name, or :func:`read` files.

    Args:
        source: as for :func:`read`, or the name of an embedded data set, alone in a
            list or not. A file of that name goes before.
        cutoff: radius of the neighbour lists, Å.
        verbose: show a progress bar.
        **keys: names of labels in files, as for :func:`read`.

    Raises:
        ValueError: for what :func:`read` refuses, and other names of labels than those
            of an embedded data set.
    """
    name: Any = source
    if isinstance(source, list | tuple) and len(source) == 1:
        (name,) = source
    if isinstance(name, str) and name in EMBEDDED and not pathlib.Path(name).exists():
        for key, label in keys.items():
            if label != NAMES[key]:
                raise ValueError(
                    "The labels of an embedded data set have names of their own. "
                    f"Received: `{key}` {label!r} for {name!r}. Leave it out."
                )
        return load(name, cutoff, verbose=verbose)
    return read(source, cutoff, verbose=verbose, **keys)


def _row(atoms: Atoms, place: str, cutoff: float, keys: Keys) -> dict[str, Any]:
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
    try:
        pairs, edge_shift = neighbour_list(atoms, cutoff)
    except ValueError as error:
        raise ValueError(f"{error} In: {place}.") from None
    positions, edge_shift = near_each_other(atoms, pairs, edge_shift)
    labels, names = candidates(atoms, keys, place)
    return {
        # Energies do not depend on the origin; float32 coordinates far from it would
        # be coarse.
        "positions": positions - positions.mean(axis=0),
        "atomic_numbers": numbers,
        "cell": atoms.cell.array[None] * atoms.pbc[:, None],
        "edge_index": pairs,
        "edge_shift": edge_shift,
        "config_type": np.array([str(atoms.info.get("config_type", ""))]),
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
        "forces": found.get("forces", np.full(row["positions"].shape, np.nan)),
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


def _refuse_unlabelled(rows: list[dict[str, Any]], energy_key: str) -> NoReturn:
    found = set().union(*(row["names"] for row in rows))
    if energy_key in found:
        raise ValueError(
            "At least one structure needs an energy that is a number. Received: "
            f"{len(rows)} structures whose {energy_key!r} is NaN or missing. Correct "
            "the labels, or name others with `energy_key` (`--energy-key`)."
        )
    known = ", ".join(sorted(found)) or "none"
    raise ValueError(
        f"At least one structure needs an energy under the name {energy_key!r}. "
        f"Received: {len(rows)} structures without one; names found: {known}. "
        "Name the right one with `energy_key` (`--energy-key`), or read "
        "unlabelled structures with `energy_key=None`."
    )


def _join(rows: list[dict[str, Any]], cutoff: float) -> Structures:
    columns: dict[str, Any] = {
        name: np.concatenate([row[name] for row in rows], dtype=dtype, casting="unsafe")
        for name, dtype in _DTYPES.items()
    }
    columns["edge_index"] = np.ascontiguousarray(columns["edge_index"].T)
    return Structures(
        **columns,
        atom_offsets=offsets([len(row["positions"]) for row in rows]),
        edge_offsets=offsets([len(row["edge_shift"]) for row in rows]),
        cutoff=float(cutoff),
    )
