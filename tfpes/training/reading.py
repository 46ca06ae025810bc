"""The structures of a training run."""

import hashlib
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from tfpes.data import Structures, read_or_load
from tfpes.data.splitting import divide
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.inference.requirements import only_known
from tfpes.training.options import FILE, Options, pairs


def read_parts(
    options: Options, console: Console
) -> tuple[dict[str, Structures], dict[str, float]]:
    """Read all files and divide them into training, validation and test sets.

    Returns:
        The sets, and the energies of isolated atoms that are known, eV.
    """
    data = _read_set(options, options.data, "data")
    atoms = _energies_of_atoms(options, data)
    parts = {"train": data[~data.isolated_atoms]}
    del data
    for name, paths in (("valid", options.valid), ("test", options.test)):
        if paths:
            part = _read_set(options, paths, name)
            parts[name] = part[~part.isolated_atoms]
    missing = [name for name in ("valid", "test") if name not in parts]
    if missing:
        fractions = (1.0 - 0.1 * len(missing), *(0.1 for _ in missing))
        everything = parts["train"]
        divided = everything.split(fractions, options.seed, cover_elements=True)
        first, *_ = divide(len(everything), fractions, options.seed)
        moved = len(divided[0]) - len(first)
        if moved:
            console.print(
                f"Structures moved from validation and test to training: {moved}, with "
                "elements that no other training structure has."
            )
        parts.update(zip(("train", *missing), divided, strict=True))
    known = set(parts["train"].elements.tolist())
    for name in ("valid", "test"):
        unknown = set(parts[name].elements.tolist()) - known
        if unknown:
            raise ValueError(
                "Validation and test sets may hold only elements of the training set, "
                f"{join_symbols(known)}. Received: `--{name}` with "
                f"{join_symbols(unknown)}. Add structures with these elements to the "
                "training data, or leave them out."
            )
    parts = _weighted(options, _with_means(options, parts, console), console)
    for name, part in parts.items():
        console.print(f"{name:>6}: {part}", highlight=False)
    return {name: parts[name] for name in ("train", "valid", "test")}, atoms


def _energies_of_atoms(options: Options, structures: Structures) -> dict[str, float]:
    if options.energies_of_atoms != FILE:
        return pairs("energies_of_atoms", options.energies_of_atoms)
    alone = structures.isolated_atoms
    energy = structures.energy[alone]
    numbers = structures.column("atomic_numbers", np.flatnonzero(alone))
    # Several of one element count alike.
    return {
        SYMBOLS[z]: float(energy[numbers == z].mean())
        for z in np.unique(numbers[np.isfinite(energy)])
        if np.isfinite(energy[numbers == z]).all()
    }


def _with_means(
    options: Options, parts: dict[str, Structures], console: Console
) -> dict[str, Structures]:
    """Leave out structures of elements whose mean energy no structure tells."""
    energy = parts["train"].energy
    labelled = np.flatnonzero(np.isfinite(energy))
    if len(labelled) in (0, len(energy)) or options.stats or options.start:
        return parts
    known = np.unique(parts["train"].column("atomic_numbers", labelled))
    reason = "of which no structure to train on has an energy"
    kept = {}
    for name, part in parts.items():
        chosen, said = only_known(part, known, reason)
        kept[name] = part[chosen]
        if said:
            console.print(f"{name:>6}: {said}", highlight=False)
    return kept


def _weighted(
    options: Options, parts: dict[str, Structures], console: Console
) -> dict[str, Structures]:
    """Multiply weights by those of configurations, and give them the mean 1.

    Raises:
        ValueError: for a configuration that no structure has, or weights of 0 alone.
    """
    given = pairs("config_weights", options.config_weights)
    if not given and all((part.weight == 1).all() for part in parts.values()):
        return parts
    kinds = set().union(*(part.config_type.tolist() for part in parts.values()))
    if unknown := sorted(given.keys() - kinds):
        raise ValueError(
            "`--config-weights` must be of configurations that there are, "
            f"{', '.join(sorted(kinds - {''})) or 'none'}. Received: "
            f"{', '.join(unknown)}. `config_type` in the file names them."
        )
    weights = {
        name: part.weight * [given.get(kind, 1.0) for kind in part.config_type]
        for name, part in parts.items()
    }
    mean = weights["train"].mean()
    if not mean:
        raise ValueError(
            "Some structure to train on must have a weight. Received: 0 for all."
        )
    low, high = weights["train"].min() / mean, weights["train"].max() / mean
    console.print(f"Weights, of mean 1: {low:.3g} to {high:.3g}.", highlight=False)
    return {
        name: part.with_weight(weights[name] / mean) for name, part in parts.items()
    }


def _read_set(options: Options, paths: Sequence[str], name: str) -> Structures:
    structures = read_or_load(
        paths,
        options.cutoff,
        energy_key=options.energy_key,
        forces_key=options.forces_key,
        stress_key=options.stress_key,
        virial_key=options.virial_key,
        weight_key=options.weight_key,
    )
    isolated = structures.isolated_atoms
    if isolated.all():
        raise ValueError(
            "Training needs structures with neighbours within the cutoff of "
            f"{options.cutoff:g} Å. Received: {len(structures)} isolated atoms in "
            f"`{name}`. Check the units (Å) and the cutoff."
        )
    return structures


def fingerprint(structures: Structures) -> str:
    """Return a hash of geometries and labels, in their order."""
    digest = hashlib.sha256()
    for some in structures.blocks():
        for name in (
            "atom_offsets", "atomic_numbers", "positions", "cell",
            "energy", "forces", "virial",
        ):  # fmt: skip
            digest.update(np.ascontiguousarray(getattr(some, name)).data)
    if (structures.weight != 1).any():
        digest.update(np.ascontiguousarray(structures.weight).data)
    return digest.hexdigest()


def check_fingerprints(
    expected: dict[str, str], parts: dict[str, Structures], folder: str
) -> None:
    """Raise a ValueError if structures or labels are not those of the run."""
    changed = [
        f"`{name}` ({len(part)} structures)"
        for name, part in parts.items()
        if fingerprint(part) != expected.get(name)
    ]
    if changed:
        raise ValueError(
            f"`--resume` needs the data that the run began with. Received: "
            f"{', '.join(changed)} with other structures or labels than those of "
            f"{folder!r}. Restore the files, or start a new run, with `--from "
            f"{folder}` if it shall begin with what was learned."
        )
