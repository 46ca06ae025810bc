"""Labels of one batch or of several, as plain arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.targets import split_structure_target

KEYS = ("energy", "forces", "virial")


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Packed targets of some batches, one after the other.

    Args:
        targets: arrays as in :mod:`tfpes.targets`, by key.
        weights: of each structure (or atom), by key, for those that have any.
        size: atoms of each structure, shape (S,); None where there are forces only.
        isolated: which structures are one isolated atom, shape (S,), or None.
        structures: number of structures in each batch.
        atoms: number of atoms in each batch; 0 without forces.
    """

    targets: dict[str, NDArray]
    weights: dict[str, NDArray]
    size: NDArray[np.float64] | None
    isolated: NDArray[np.bool_] | None
    structures: tuple[int, ...]
    atoms: tuple[int, ...]

    @property
    def layout(self) -> tuple:
        """What must agree between labels that are joined."""
        shapes = [(key, array.shape[1:]) for key, array in self.targets.items()]
        return (*shapes, *self.weights)

    @property
    def numbers(self) -> int:
        """How many numbers there are."""
        return sum(array.size for array in self.targets.values())


def read_labels(batch: Any) -> Labels:
    """Take what `adapt` needs from a batch.

    Args:
        batch: ``targets``, ``(inputs, targets)`` or ``(inputs, targets, weights)``;
            dicts as in :mod:`tfpes.data`, of tensors or arrays.

    Raises:
        ValueError: for anything else, or labels that are not packed.
    """
    inputs, targets, weights = _unpack(batch)
    arrays = {key: _owned(targets[key]) for key in KEYS if key in targets}
    if not arrays:
        raise ValueError(
            "`adapt` needs targets with at least one of the keys 'energy', "
            f"'forces', 'virial'. Received: {sorted(targets)}."
        )
    size = isolated = None
    for key in ("energy", "virial"):
        if size is None and key in arrays:
            composition = split_structure_target(arrays[key])[1]
            # Three times as fast as a sum over the second axis.
            size = composition @ np.ones(composition.shape[1])
            isolated = _isolated_atoms(inputs, size)
    return Labels(
        arrays,
        {
            key: _checked_weight(weights[key], key, len(array))
            for key, array in arrays.items()
            if weights.get(key) is not None
        },
        size,
        isolated,
        (0 if size is None else len(size),),
        (len(arrays["forces"]) if "forces" in arrays else 0,),
    )


def join(parts: Sequence[Labels]) -> Labels:
    """Return the labels of several batches of the same layout as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    with_structures = first.size is not None

    def together(arrays: Iterable[Any]) -> NDArray:
        return np.concatenate(list(arrays))

    return Labels(
        {key: together(part.targets[key] for part in parts) for key in first.targets},
        {key: together(part.weights[key] for part in parts) for key in first.weights},
        together(part.size for part in parts) if with_structures else None,
        together(part.isolated for part in parts) if with_structures else None,
        tuple(number for part in parts for number in part.structures),
        tuple(number for part in parts for number in part.atoms),
    )


def _owned(values: Any) -> NDArray:
    """Return an array that nobody changes while it waits."""
    array = np.asarray(values)
    # Tensors are never written to; a generator may fill the same array again.
    return array.copy() if array.flags.writeable else array


def _unpack(batch: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    if isinstance(batch, dict):
        return None, batch, {}
    if isinstance(batch, tuple | list) and 2 <= len(batch) <= 3:
        inputs, targets = batch[:2]
        weights = batch[2] if len(batch) == 3 else {}
        if isinstance(targets, dict) and isinstance(weights, dict):
            unknown = sorted(set(weights) - set(targets))
            if unknown:
                raise ValueError(
                    "Weights have the keys of the targets, "
                    f"{', '.join(sorted(targets))}. Received: {', '.join(unknown)}."
                )
            return inputs, targets, weights
    raise ValueError(
        "`adapt` takes batches of `targets`, `(inputs, targets)` or `(inputs, targets, "
        "weights)`, each of them a dict as `Structures.batches` makes them. Received: "
        f"{type(batch).__name__}"
        + (
            f" of {', '.join(type(part).__name__ for part in batch)}."
            if isinstance(batch, tuple | list)
            else "."
        )
    )


def _checked_weight(values: Any, key: str, length: int) -> NDArray:
    weight = _owned(values)
    if weight.shape != (length,):
        what = "atom" if key == "forces" else "structure"
        raise ValueError(
            f"Weights of the key '{key}' must have shape ({length},), one for each "
            f"{what} of the batch. Received: shape {weight.shape}."
        )
    return weight


def _isolated_atoms(inputs: Any, size: NDArray) -> NDArray[np.bool_]:
    """Find structures of one atom without a neighbour (or, unknown, without a cell)."""
    alone = size == 1
    if not isinstance(inputs, dict) or not alone.any():
        return alone
    if {"edge_index", "structure_index"} <= set(inputs):
        owner = np.asarray(inputs["structure_index"])[np.asarray(inputs["edge_index"])]
        return alone & (np.bincount(owner[0], minlength=len(alone)) == 0)
    if "cell" in inputs:
        return alone & ~np.asarray(inputs["cell"]).any(axis=(1, 2))
    return alone
