"""What `adapt` reads from a batch: columns of numbers for each table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics import split_virial
from tfpes.targets import flat, row_weights, split_atom_target, split_structure_target

Columns = tuple[NDArray | None, ...]
"""Arguments of a table's ``update``; for forces, the whole target."""

_KEYS = ("energy", "forces", "virial")


def read_batch(batch: Any) -> dict[str, Columns]:
    """Return the columns for the tables of energies, virials and forces.

    Args:
        batch: ``targets``, ``(inputs, targets)`` or ``(inputs, targets, weights)``;
            dicts as in :mod:`tfpes.data`, of tensors or arrays.

    Returns:
        ``energies``, ``pressures``, ``deviators``: composition, values, weights and
        which structures are one isolated atom; ``forces``: atomic numbers, targets,
        weights and index of the structure. Only those that the targets have; weights
        may be None. Nobody changes the arrays.

    Raises:
        ValueError: for anything else, or labels that are not packed.
    """
    inputs, targets, weights = _unpack(batch)
    arrays = {key: _owned(targets[key]) for key in _KEYS if key in targets}
    if not arrays:
        raise ValueError(
            "`adapt` needs targets with at least one of the keys 'energy', "
            f"'forces', 'virial'. Received: {sorted(targets)}."
        )
    columns: dict[str, Columns] = {}
    isolated = None
    for key in ("energy", "virial"):
        if key not in arrays:
            continue
        label, composition = split_structure_target(arrays[key])
        tables = {"energies": label}
        if key == "virial":
            pressure, square = split_virial(label)
            tables = {"pressures": pressure, "deviators": square}
        if isolated is None:
            # Three times as fast as a sum over the second axis.
            size = composition @ np.ones(composition.shape[1])
            least = size.min(initial=2.0)
            isolated = isolated_atoms(inputs, size)
        weight = _weights(weights, key, arrays)
        for table, values in tables.items():
            found: Columns = (composition, values, weight, isolated)
            if not least:
                # A structure without atoms is padding: it is not even counted.
                real = composition.any(axis=1)
                found = tuple(None if part is None else part[real] for part in found)
            columns[table] = found
    if "forces" in arrays:
        forces = flat(arrays["forces"])[0]
        _, numbers, index = split_atom_target(forces)
        weight = _weights(weights, "forces", arrays)
        if isolated is not None:
            _check_index(index, len(isolated))
            if isolated.any():
                # Zero by symmetry: no draws from a distribution.
                numbers = np.where(isolated[index], 0, numbers)
        columns["forces"] = (numbers, forces, weight, index)
    return columns


def _owned(values: Any) -> NDArray:
    """Return an array that nobody changes while it waits."""
    array = np.asarray(values)
    # Tensors are never written to; a generator may fill the same array again.
    return array.copy() if array.flags.writeable else array


def _weights(
    weights: Mapping[str, Any], key: str, arrays: Mapping[str, NDArray]
) -> NDArray | None:
    if weights.get(key) is None:
        return None
    target, _, weight = flat(arrays[key], None, np.asarray(weights[key]))
    return np.array(row_weights(weight, target))


def _unpack(batch: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    if isinstance(batch, dict):
        return None, batch, {}
    received = type(batch).__name__
    if isinstance(batch, tuple | list):
        received += f" of {', '.join(type(part).__name__ for part in batch)}"
        if 2 <= len(batch) <= 3:
            inputs, targets, weights = batch if len(batch) == 3 else (*batch, {})
            if isinstance(targets, dict) and isinstance(weights, dict):
                unknown = sorted(set(weights) - set(targets))
                if not unknown:
                    return inputs, targets, weights
                raise ValueError(
                    "Weights have the keys of the targets, "
                    f"{', '.join(sorted(targets))}. Received: {', '.join(unknown)}."
                )
    raise ValueError(
        "`adapt` takes batches of `targets`, `(inputs, targets)` or `(inputs, targets, "
        "weights)`, each of them a dict as `Structures.batches` makes them. Received: "
        f"{received}."
    )


def _check_index(index: NDArray, structures: int) -> None:
    # Negative numbers are huge ones then.
    if index.size and index.view(np.uint32).max() >= structures:
        raise ValueError(
            "The structure index of an atom must be one of the structures of the "
            f"batch, 0 to {structures - 1}. Received: {index.min()} to "
            f"{index.max()}. Pack forces with `tfpes.targets.atom_target`."
        )


def isolated_atoms(inputs: Any, size: NDArray) -> NDArray[np.bool_]:
    """Find structures of one atom without a neighbour (or, unknown, without a cell).

    Args:
        inputs: of a model, or anything that tells nothing of neighbours.
        size: atoms in each structure, (S,).
    """
    alone = size == 1
    if not isinstance(inputs, dict) or not alone.any():
        return alone
    if {"edge_index", "structure_index"} <= set(inputs):
        owner = np.asarray(inputs["structure_index"])[np.asarray(inputs["edge_index"])]
        return alone & (np.bincount(owner[0], minlength=len(alone)) == 0)
    if "cell" in inputs:
        return alone & ~np.asarray(inputs["cell"]).any(axis=(1, 2))
    return alone
