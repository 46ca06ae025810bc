"""Which arrays of a structure are labels, and under which names."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

NAMES = {
    "energy_key": "energy",
    "forces_key": "forces",
    "stress_key": "stress",
    "virial_key": "virial",
    "weight_key": "config_weight",
}
"""Under which labels and weights are looked for, by default."""

_KINDS = ("energy", "forces", "stress", "virial")
"""Of labels, and the names that stand for all usual ones."""

Keys = Mapping[str, str | None]
"""The name of each kind; None for labels that are not to be read."""

_Labels = dict[str, dict[str, NDArray[np.float64]]]
"""Of one structure: by kind, by name."""

_ORIGINS = "ref|reference|dft|qm|vasp|true|target|label"
# Not `energies` and `stresses`, which ASE has for each atom, nor energies that mean
# something else: of formation, per atom, free.
_STEMS = {
    "energy": "(total_|potential_)?energy",
    "forces": "forces?",
    "stress": "stress",
    "virial": "virials?",
}
_USUAL = {
    kind: re.compile(rf"(({_ORIGINS})_?)?({stem})(_?({_ORIGINS}))?", re.IGNORECASE)
    for kind, stem in _STEMS.items()
}
_LARGEST_FORCE = float(np.finfo(np.float32).max)


def check_keys(keys: Keys) -> None:
    """Raise a ValueError for a virial that is named as a stress."""
    name = keys["stress"]
    if name is not None and _USUAL["virial"].fullmatch(name):
        raise ValueError(
            "`stress_key` names a stress (eV/Å³), which is multiplied by the volume. "
            f"Received: {name!r}, the name of a virial (eV). Use `virial_key` "
            "(`--virial-key`)."
        )


def candidates(atoms: Atoms, keys: Keys, place: str) -> tuple[_Labels, set[str]]:
    """Find what may be a label, and all the names that there are.

    Raises:
        ValueError: for a label of the right name that is infinite, no number or of
            another shape.
    """
    # Labels that a calculator left come first.
    holders = (getattr(atoms.calc, "results", {}), atoms.info, atoms.arrays)
    values: dict[str, Any] = {}
    for holder in reversed(holders):
        values.update({k: v for k, v in holder.items() if v is not None})
    count, given = len(atoms), tuple(keys[kind] for kind in _KINDS)
    shapes = {
        "energy": ((), (1,)),
        "forces": ((count, 3),),
        "stress": ((6,), (3, 3), (9,)),
        "virial": ((6,), (3, 3), (9,)),
    }
    labels: _Labels = {kind: {} for kind in _KINDS}
    for name, value in values.items():
        for kind in _kinds(str(name), given):
            array = _numbers(value)
            if array is None or array.shape not in shapes[kind]:
                if name == keys[kind]:
                    _refuse(kind, name, value, array, shapes[kind], count, place)
                continue
            largest = _LARGEST_FORCE if kind == "forces" else np.inf
            # A sum of squares takes a quarter of the time, and NaN is not below.
            whole = array.ravel()
            if not whole @ whole < largest and (abs(array) >= largest).any():
                raise ValueError(
                    "Labels must be finite, or NaN where they are missing. Received: "
                    f"{place} with an infinite {name}. Correct it or set it to NaN."
                )
            labels[kind][name] = array
    return labels, set(values) - {"numbers", "positions"}


def choose(
    labels: Sequence[_Labels],
    keys: Keys,
    found: Iterable[str],
    more_to_come: bool = False,
) -> Keys:
    """Return the names under which the labels are, None for kinds without any.

    Args:
        labels: of each structure.
        keys: as given; a kind's own name stands for all usual ones, if no structure
            has just that.
        found: all names in the structures, for messages.
        more_to_come: whether later structures may have a name that is missing.

    Raises:
        ValueError: for a name that no structure has, and several that could be meant.
    """
    chosen: dict[str, str | None] = {}
    for kind, key in keys.items():
        names = sorted({name for label in labels for name in label[kind]})
        chosen[kind] = key if key in names else next(iter(names), None)
        if key is None or key in names:
            continue
        flag = f"`{kind}_key` (`--{kind}-key`)"
        if len(names) > 1:
            raise ValueError(
                f"{flag} must name the label where several could be meant. Received: "
                f"structures with {', '.join(names)}. Name one."
            )
        if not names and key != kind and not more_to_come:
            known = ", ".join(sorted(found)) or "none"
            raise ValueError(
                f"{flag} must be a name that a structure has. Received: {key!r}, under "
                f"which none of {len(labels)} structures has a label; names found: "
                f"{known}. Correct it, or leave it out."
            )
    return chosen


def has_volume(atoms: Atoms) -> bool:
    """Return whether a structure is periodic, and its cell has three vectors.

    Codes for crystals tell a stress of slabs and wires per volume of such a cell, too.
    """
    return bool(atoms.pbc.any()) and atoms.cell.rank == 3


def weight_of(atoms: Atoms, key: str | None, place: str) -> NDArray[np.float64]:
    """Return the weight of a structure, (1,)."""
    value = atoms.info.get(key, 1.0)
    try:
        weight = np.asarray(value, np.float64).reshape(1)
    except (TypeError, ValueError):
        weight = np.array([np.nan])
    if not 0 <= weight[0] < np.inf:
        raise ValueError(
            "The weight of a structure must be a number, finite and not negative. "
            f"Received: {place} with {key} = {value!r}. Correct it, or pass "
            "`weight_key=None`."
        )
    return weight


def is_weighted(names: Iterable[set[str]], key: str | None) -> bool:
    """Return whether a structure has a weight, from the names that each has.

    Raises:
        ValueError: if none has, and the name is not that of the default.
    """
    weighted = any(key in found for found in names)
    if key not in (None, NAMES["weight_key"]) and not weighted:
        raise ValueError(
            "`weight_key` (`--weight-key`) must be a name that a structure has. "
            f"Received: {key!r}, which none has. Correct it, or leave it out."
        )
    return weighted


def summary(labels: Sequence[_Labels], chosen: Keys) -> str:
    """Say in a line which labels there are, and under which names."""
    parts, absent = [], []
    for kind, name in chosen.items():
        arrays = [label[kind].get(str(name)) for label in labels]
        count = sum(a is not None and bool(np.isfinite(a).any()) for a in arrays)
        if count:
            alias = "" if name == kind else f" ({name})"
            parts.append(f"{kind}{alias} of {count}")
        elif kind != "stress":
            absent.append(kind)
    if "virial" in absent and any(part.startswith("stress") for part in parts):
        absent.remove("virial")
    none = [f"no {' or '.join(absent)}"] if absent else []
    return f"Labels of {len(labels)} structures: {', '.join(parts + none)}."


@functools.cache
def _kinds(name: str, keys: tuple[str | None, ...]) -> tuple[str, ...]:
    """Return what a name can stand for."""
    return tuple(
        kind
        for kind, key in zip(_KINDS, keys, strict=True)
        if name == key or (key == kind and _USUAL[kind].fullmatch(name))
    )


def _numbers(value: Any) -> NDArray[np.float64] | None:
    """Return an array; None for what is not made of numbers."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return np.asarray(array, np.float64) if array.dtype.kind in "iuf" else None


def _refuse(
    kind: str,
    name: str,
    value: Any,
    array: NDArray | None,
    shapes: tuple[tuple[int, ...], ...],
    count: int,
    place: str,
) -> None:
    if array is None:
        raise ValueError(
            f"Labels must be numbers. Received: {place} with {name} = {value!r}."
        )
    raise ValueError(
        f"The {kind} of a structure of {count} atoms has the shape "
        f"{' or '.join(map(str, shapes))}. Received: {array.shape} in {place}."
    )
