"""From files of structures, or ASE objects, to columns."""

import io
import lzma
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.io import iread
from rich.progress import Progress

from tfpes.data import frames
from tfpes.data.embedded import EMBEDDED, embedded_path
from tfpes.data.folder import columns, is_folder
from tfpes.data.labels import (
    NAMES,
    check_keys,
    choose,
    is_weighted,
    summary,
)
from tfpes.data.rows import join, pack_geometry, pack_labels, refuse_unlabelled
from tfpes.data.sources import Source
from tfpes.data.structures import Structures
from tfpes.terminal import PlainConsole

# Many small arrays take more memory than what is in them.
_PACKED = 512


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
    neighbours: bool = True,
    jobs: int = 1,
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
        neighbours: False for statistics alone: structures of several atoms are then
            without edges, and distances are not checked.
        jobs: number of processes that read files, one at a time each.

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
    rows: list[dict[str, Any]] = []
    packed: list[dict[str, Any]] = []
    # The number of structures is known only at the end: the bar counts.
    console = PlainConsole(stderr=True)
    with Progress(
        "{task.description}", "{task.completed} structures",
        console=console, transient=True, disable=not (verbose and console.is_terminal),
    ) as progress:  # fmt: skip
        task = progress.add_task("Reading", total=None)
        for row in frames.rows(source, cutoff, keys, weight_key, neighbours, jobs):
            rows.append(row)
            if len(rows) % _PACKED == 0:
                packed.append(pack_geometry(rows[-_PACKED:]))
            progress.advance(task)
    if not rows:
        raise ValueError(
            f"`read` needs at least one structure. Received: none in {source!r}."
        )
    packed.append(pack_geometry(rows[len(packed) * _PACKED :]))
    labels = [row["labels"] for row in rows]
    chosen = choose(labels, keys, set().union(*(row["names"] for row in rows)))
    packed[0] |= pack_labels(rows, chosen)
    if energy_key is not None and not np.isfinite(packed[0]["energy"]).any():
        names = set().union(*(row["names"] for row in rows))
        refuse_unlabelled(len(rows), names, energy_key)
    weighted = is_weighted((row["names"] for row in rows), weight_key)
    structures = join(packed, cutoff)
    if verbose and any(keys.values()):
        console.print(summary(labels, chosen))
        if weighted:
            low, high = structures.weight.min(), structures.weight.max()
            console.print(f"Weights ({weight_key}): {low:g} to {high:g}.")
        if alone := np.count_nonzero(structures.isolated_atoms):
            plural = "s" if alone > 1 else ""
            console.print(
                f"{alone} isolated atom{plural}: in no statistics, no loss and no "
                "metric, since their energies lie a cohesive energy away from all "
                "others."
            )
    return structures


def open(folder: str | pathlib.Path) -> Structures:
    """Open a folder that ``Structures.save`` or ``tfpes convert`` has written.

    Columns are mapped into memory: opening takes no time and no memory, whatever the
    size, and what is used is read from disk. Nothing in a folder is ever executed.

    Args:
        folder: its path.

    Returns:
        The structures; their neighbour lists are those of the folder's cutoff.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is damaged, or of another version. The message names the file.
    """
    return Structures(**columns(folder))


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
        found = iread(io.StringIO(file.read()), ":", format="extxyz")
        return read(found, cutoff, verbose=verbose)


def read_or_load(
    source: Source,
    cutoff: float,
    *,
    verbose: bool = True,
    neighbours: bool = True,
    jobs: int = 1,
    **keys: str | None,
) -> Structures:
    """Load the embedded data set of that name, open a folder, or :func:`read` files.

    Args:
        source: as for :func:`read`, or the name of an embedded data set or the path of
            a folder (:func:`open`), alone in a list or not. A file of the name of a
            data set goes before.
        cutoff: radius of the neighbour lists, Å.
        verbose: show a progress bar.
        neighbours: as for :func:`read`.
        jobs: as for :func:`read`.
        **keys: names of labels in files, as for :func:`read`.

    Raises:
        ValueError: for what :func:`read` refuses, and other names of labels than those
            of an embedded data set.
    """
    name: Any = source
    if isinstance(source, list | tuple) and len(source) == 1:
        (name,) = source
    if is_folder(name):
        _refuse_names(keys, name)
        structures = open(name)
        if not math.isclose(structures.cutoff, cutoff, rel_tol=1e-6):
            raise ValueError(
                "The neighbour lists of a folder have one cutoff. Received: "
                f"{cutoff:g} Å for {str(name)!r} of {structures.cutoff:g} Å. Pass "
                f"`--cutoff {structures.cutoff:g}`, or make a folder with `tfpes "
                f"convert --cutoff {cutoff:g}`."
            )
        return structures
    if isinstance(name, str) and name in EMBEDDED and not pathlib.Path(name).exists():
        _refuse_names(keys, name)
        return load(name, cutoff, verbose=verbose)
    return read(
        source, cutoff, verbose=verbose, neighbours=neighbours, jobs=jobs, **keys
    )


def _refuse_names(keys: Mapping[str, str | None], name: Any) -> None:
    for key, label in keys.items():
        if label != NAMES[key]:
            raise ValueError(
                "The labels of a folder or an embedded data set have names of their "
                f"own. Received: `{key}` {label!r} for {str(name)!r}. Leave it out."
            )
