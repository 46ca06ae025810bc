"""From files of structures, or ASE objects, to columns."""

import io
import lzma
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from tfpes.data.embedded import EMBEDDED, embedded_path
from tfpes.data.neighbours import neighbour_list
from tfpes.data.structures import Structures

Source = str | pathlib.Path | Iterable[str | pathlib.Path] | Iterable[Atoms]


def read(
    source: Source,
    cutoff: float,
    *,
    energy_key: str | None = "energy",
    forces_key: str | None = "forces",
    stress_key: str | None = "stress",
    verbose: bool = True,
) -> Structures:
    """Read structures, their labels and their neighbour lists.

    Labels are taken from the results of the attached calculator, else from
    ``atoms.info`` (energy, stress) or ``atoms.arrays`` (forces). A structure without
    a label gets NaN. The virial is ``-volume * stress``.

    Args:
        source: a path of any file that ASE reads, several paths, or an iterable of
            ``ase.Atoms``. Units eV, Å, eV/Å, and eV/Å³ with ASE's sign of the stress.
        cutoff: radius of the neighbour lists, Å.
        energy_key: name of the energies; None to read structures without labels.
        forces_key: name of the forces, or None.
        stress_key: name of the stress (Voigt or 3 × 3), or None.
        verbose: show a progress bar.

    Returns:
        The structures, in the order of the source.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be read, holds no structure or no energy, or a
            structure has no atoms, atoms on top of each other, an unknown element,
            a NaN position or an infinite label. The message names the structure.

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
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    rows = []
    # The number of structures is known only at the end: the bar counts.
    console = Console(stderr=True)
    with Progress(
        "{task.description}", "{task.completed} structures",
        console=console, transient=True, disable=not (verbose and console.is_terminal),
    ) as progress:  # fmt: skip
        task = progress.add_task("Reading", total=None)
        for place, atoms in iterate(source):
            rows.append(_row(atoms, place, cutoff, keys))
            progress.advance(task)
    if not rows:
        raise ValueError(
            f"`read` needs at least one structure. Received: none in {source!r}."
        )
    structures = _columns(rows, cutoff)
    if energy_key is not None and not np.isfinite(structures.energy).any():
        found = set().union(*(row["names"] for row in rows))
        if energy_key in found:
            raise ValueError(
                "At least one structure needs an energy that is a number. Received: "
                f"{len(rows)} structures whose {energy_key!r} is NaN or missing. "
                "Correct the labels, or name others with `energy_key` "
                "(`--energy-key`)."
            )
        known = ", ".join(sorted(found - {"numbers", "positions"})) or "none"
        raise ValueError(
            f"At least one structure needs an energy under the name {energy_key!r}. "
            f"Received: {len(rows)} structures without one; names found: {known}. "
            "Name the right one with `energy_key` (`--energy-key`), or read "
            "unlabelled structures with `energy_key=None`."
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
    """
    name: Any = source
    if isinstance(source, list | tuple) and len(source) == 1:
        (name,) = source
    if isinstance(name, str) and name in EMBEDDED and not pathlib.Path(name).exists():
        return load(name, cutoff, verbose=verbose)
    return read(source, cutoff, verbose=verbose, **keys)


def iterate(source: Source) -> Iterator[tuple[str, Atoms]]:
    """Yield each structure with words that name it in a message.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be read.
    """
    if isinstance(source, Atoms):
        raise TypeError(
            "`read` takes a path, paths, or an iterable of `ase.Atoms`. Received: one "
            "`Atoms` object. Put it in a list: `read([atoms], ...)`."
        )
    if isinstance(source, str | pathlib.Path):
        source = [source]
    number = 0
    for item in source:
        if isinstance(item, Atoms):
            yield f"structure {number}", item
            number += 1
        elif isinstance(item, str | pathlib.Path):
            yield from _iterate_file(pathlib.Path(item))
        else:
            raise TypeError(
                "`read` takes a path, paths, or an iterable of `ase.Atoms`. Received "
                f"an item of type {type(item).__name__}."
            )


def _iterate_file(path: pathlib.Path) -> Iterator[tuple[str, Atoms]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"`read` needs a file that exists. Received: {str(path)!r}. Check the path."
        )
    if not path.stat().st_size:
        raise ValueError(
            "`read` needs at least one structure. Received: "
            f"{str(path)!r}, an empty file. Check how it was written."
        )
    frames = iread(str(path), ":")
    number = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            return
        except UnknownFileTypeError:
            raise ValueError(
                f"ASE must recognize the format of a file. Received: {str(path)!r}, "
                "of no known format. Convert it, for instance to extended XYZ."
            ) from None
        except Exception as error:
            # ASE's parsers raise whatever their first failing line raises.
            raise ValueError(
                f"ASE must be able to read a file. Received: {str(path)!r}, which "
                f"fails after {number} structures: {type(error).__name__}: {error}."
            ) from error
        yield f"structure {number} of {path}", atoms
        number += 1


def _results(atoms: Atoms) -> dict[str, Any]:
    return getattr(atoms.calc, "results", {})


def _label(atoms: Atoms, key: str | None, place: str, shape: tuple) -> Any:
    """Look up a label; NaN of the given shape where there is none."""
    value = None
    if key is not None:
        for holder in (_results(atoms), atoms.info, atoms.arrays):
            if (value := holder.get(key)) is not None:
                break
    if value is None:
        return np.full(shape, np.nan)
    try:
        value = np.asarray(value, dtype=np.float64)
    except ValueError:
        raise ValueError(
            f"Labels must be numbers. Received: {place} with {key} = {value!r}."
        ) from None
    if np.isinf(value).any():
        raise ValueError(
            f"Labels must be finite, or NaN where they are missing. Received: {place} "
            f"with an infinite {key}. Correct it or set it to NaN."
        )
    return value


def _row(
    atoms: Atoms, place: str, cutoff: float, keys: dict[str, str | None]
) -> dict[str, Any]:
    numbers = atoms.numbers
    if not len(numbers):
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
    energy = _label(atoms, keys["energy"], place, ())
    forces = _label(atoms, keys["forces"], place, (len(numbers), 3))
    stress = _label(atoms, keys["stress"], place, (6,))
    for name, value, shapes in (
        ("energy", energy, [(), (1,)]),
        ("forces", forces, [(len(numbers), 3)]),
        ("stress", stress, [(6,), (3, 3), (9,)]),
    ):
        if value.shape not in shapes:
            raise ValueError(
                f"The {name} of a structure of {len(numbers)} atoms has the shape "
                f"{' or '.join(map(str, shapes))}. Received: {value.shape} in {place}."
            )
    return {
        # Energies do not depend on the origin; float32 coordinates far from it would
        # be coarse.
        "positions": atoms.positions - atoms.positions.mean(axis=0),
        "atomic_numbers": numbers,
        "cell": atoms.cell.array * atoms.pbc[:, None],
        "pairs": pairs,
        "edge_shift": edge_shift,
        "energy": energy.reshape(()),
        "forces": forces,
        # A stress is a derivative per volume: without three periods there is none.
        "virial": -atoms.cell.volume * _tensor(stress)
        if atoms.pbc.all()
        else np.full((3, 3), np.nan),
        "names": (*_results(atoms), *atoms.info, *atoms.arrays),
        "config_type": str(atoms.info.get("config_type", "")),
    }


def _tensor(stress: NDArray) -> NDArray:
    """Return a stress as 3 × 3; six numbers are ASE's Voigt order."""
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return stress.reshape(3, 3)


def _columns(rows: list[dict[str, Any]], cutoff: float) -> Structures:
    def stack(name: str, dtype: Any) -> NDArray:
        return np.array([row[name] for row in rows], dtype=dtype)

    def join(name: str, dtype: Any) -> NDArray:
        columns = [row[name] for row in rows]
        return np.concatenate(columns, dtype=dtype, casting="unsafe")

    def offsets(name: str) -> NDArray[np.int64]:
        counts = [len(row[name]) for row in rows]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    return Structures(
        positions=join("positions", np.float32),
        atomic_numbers=join("atomic_numbers", np.int32),
        cell=stack("cell", np.float32),
        edge_index=np.ascontiguousarray(join("pairs", np.int32).T),
        edge_shift=join("edge_shift", np.int16),
        energy=stack("energy", np.float64),
        forces=join("forces", np.float32),
        virial=stack("virial", np.float64),
        atom_offsets=offsets("atomic_numbers"),
        edge_offsets=offsets("pairs"),
        config_type=np.array([row["config_type"] for row in rows], dtype=np.str_),
        cutoff=float(cutoff),
    )
