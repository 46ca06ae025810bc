"""The structures of a training run."""

import hashlib
from collections.abc import Sequence

import numpy as np
from rich.console import Console

from tfpes.data import Structures, read_or_load
from tfpes.elements import join_symbols
from tfpes.training.options import Options


def read_parts(options: Options, console: Console) -> dict[str, Structures]:
    """Read all files and divide them into training, validation and test sets."""
    parts = {"train": _read_set(options, options.data, "data")}
    for name, paths in (("valid", options.valid), ("test", options.test)):
        if paths:
            parts[name] = _read_set(options, paths, name)
    missing = [name for name in ("valid", "test") if name not in parts]
    if missing:
        fractions = (1.0 - 0.1 * len(missing), *(0.1 for _ in missing))
        everything = parts["train"]
        plain = everything.split(fractions, options.seed)
        divided = everything.split(fractions, options.seed, cover_elements=True)
        moved = len(divided[0]) - len(plain[0])
        if moved:
            console.print(
                f"{moved} structure(s) hold elements that no other training structure "
                "has: they were moved from validation and test to training."
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
    for name, part in parts.items():
        console.print(f"{name:>6}: {part}", highlight=False)
    return {name: parts[name] for name in ("train", "valid", "test")}


def _read_set(options: Options, paths: Sequence[str], name: str) -> Structures:
    structures = read_or_load(
        paths,
        options.cutoff,
        energy_key=options.energy_key,
        forces_key=options.forces_key,
        stress_key=options.stress_key,
        virial_key=options.virial_key,
    )
    isolated = structures.isolated_atoms
    if isolated.all():
        raise ValueError(
            "Training needs structures with neighbours within the cutoff of "
            f"{options.cutoff:g} Å. Received: {len(structures)} isolated atoms in "
            f"`{name}`. Check the units (Å) and the cutoff."
        )
    return structures[~isolated]


def fingerprint(structures: Structures) -> str:
    """Return a hash of geometries and labels, in their order."""
    digest = hashlib.sha256()
    for name in (
        "atom_offsets", "atomic_numbers", "positions", "cell",
        "energy", "forces", "virial",
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(getattr(structures, name)).tobytes())
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
