"""What `adapt` gathers from batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.statistics import AtomicTable, CompositionTable, virial_mean_square
from tfpes.targets import split_atom_target, split_structure_target

_PARTS: dict[str, type[CompositionTable] | type[AtomicTable]] = {
    "energies": CompositionTable,
    "virials": CompositionTable,
    "forces": AtomicTable,
}


class Accumulator:
    """Sufficient statistics of packed targets."""

    def __init__(self, keep_structures: bool = False) -> None:
        """Start empty; a robust fit keeps single structures."""
        self.energies = CompositionTable(keep_structures=keep_structures)
        self.virials = CompositionTable()
        self.forces = AtomicTable()

    def update(self, batch: Any) -> None:
        """Add a batch.

        Args:
            batch: ``targets``, ``(inputs, targets)`` or ``(inputs, targets,
                weights)``; dicts as in :mod:`tfpes.data`, of tensors or arrays.

        Raises:
            ValueError: for anything else, or labels that are not packed.
        """
        inputs, targets, weights = _unpack(batch)
        known = {"energy", "forces", "virial"} & set(targets)
        if not known:
            raise ValueError(
                "`adapt` needs targets with at least one of the keys 'energy', "
                f"'forces', 'virial'. Received: {sorted(targets)}."
            )
        isolated = None
        for key in ("energy", "virial"):
            if key not in known:
                continue
            values, composition = split_structure_target(np.asarray(targets[key]))
            weight = _checked_weight(weights, key, len(values))
            if isolated is None:
                isolated = _isolated_atoms(inputs, composition)
            alone = isolated
            # A structure without atoms is padding: it is not even counted.
            real = composition.any(axis=1)
            if not real.all():
                values, composition, alone = (
                    values[real],
                    composition[real],
                    alone[real],
                )
                weight = None if weight is None else weight[real]
            if key == "energy":
                self.energies.update(composition, values, weight, alone)
            else:
                square = virial_mean_square(values.reshape(-1, 3, 3))
                self.virials.update(composition, square, weight, alone)
        if "forces" in known:
            forces, numbers, index = split_atom_target(np.asarray(targets["forces"]))
            weight = _checked_weight(weights, "forces", len(forces))
            if isolated is not None:
                _check_index(index, len(isolated))
            if isolated is not None and isolated.any():
                # Their forces are zero by symmetry: no draws from a distribution.
                numbers = np.where(isolated[index], 0, numbers)
            self.forces.update(numbers, forces, weight)

    def merge(self, other: "Accumulator") -> None:
        """Add everything that another accumulator has seen."""
        self.energies.merge(other.energies)
        self.virials.merge(other.virials)
        self.forces.merge(other.forces)

    def state(self) -> dict[str, NDArray]:
        """Return everything as arrays of numbers, for :meth:`from_state`."""
        return {
            f"{part}_{name}": array
            for part in _PARTS
            for name, array in getattr(self, part).state().items()
            # HDF5 files of Keras hold numbers only.
            if name != "kind"
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> "Accumulator":
        """Return the accumulator that `state` was taken from.

        Raises:
            ValueError: if the state is damaged or of another version.
        """
        tables = {}
        for part, table in _PARTS.items():
            prefix = f"{part}_"
            arrays = {
                name.removeprefix(prefix): np.asarray(array)
                for name, array in state.items()
                if name.startswith(prefix)
            }
            kind = np.array(table.__name__)
            tables[part] = table.from_state({"kind": kind, **arrays})
        accumulator = cls()
        for part, filled in tables.items():
            setattr(accumulator, part, filled)
        return accumulator

    @property
    def keep_structures(self) -> bool:
        """Whether single structures are kept."""
        return self.energies.keep_structures

    @property
    def has_energies(self) -> bool:
        """Whether targets had the key "energy", with or without labels."""
        return self.energies.counts_seen["received"] > 0

    @property
    def has_forces(self) -> bool:
        """Whether targets had the key "forces", with or without labels."""
        return bool(self.forces.atoms.any() or self.forces.missing.any())

    @property
    def has_virials(self) -> bool:
        """Whether there is a virial."""
        return self.virials.structures > 0

    @property
    def is_empty(self) -> bool:
        """Whether no structure and no atom has been seen."""
        return not (self.has_energies or self.has_virials or self.has_forces)


def _unpack(batch: Any) -> tuple[dict | None, dict, dict]:
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


def _checked_weight(weights: dict[str, Any], key: str, length: int) -> NDArray | None:
    if weights.get(key) is None:
        return None
    weight = np.asarray(weights[key])
    if weight.shape != (length,):
        what = "atom" if key == "forces" else "structure"
        raise ValueError(
            f"Weights of the key '{key}' must have shape ({length},), one for each "
            f"{what} of the batch. Received: shape {weight.shape}."
        )
    return weight


def _check_index(index: NDArray, structures: int) -> None:
    if index.size and not 0 <= index.min() <= index.max() < structures:
        raise ValueError(
            "The structure index of an atom must be one of the structures of the "
            f"batch, 0 to {structures - 1}. Received: {index.min()} to {index.max()}. "
            "Pack forces with `tfpes.targets.atom_target`."
        )


def _isolated_atoms(inputs: Any, composition: NDArray) -> NDArray[np.bool_]:
    """Find structures of one atom without a neighbour (or, unknown, without a cell)."""
    alone = composition.sum(axis=1) == 1
    if not isinstance(inputs, dict):
        return alone
    if {"edge_index", "structure_index"} <= set(inputs):
        owner = np.asarray(inputs["structure_index"])[np.asarray(inputs["edge_index"])]
        return alone & (np.bincount(owner[0], minlength=len(alone)) == 0)
    if "cell" in inputs:
        return alone & ~np.asarray(inputs["cell"]).any(axis=(1, 2))
    return alone
