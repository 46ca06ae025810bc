"""What `adapt` gathers from batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.layers.batches import Labels, join, read_labels
from tfpes.statistics import AtomicTable, CompositionTable, virial_mean_square
from tfpes.targets import split_atom_target, split_structure_target

_PARTS: dict[str, type[CompositionTable] | type[AtomicTable]] = {
    "energies": CompositionTable,
    "virials": CompositionTable,
    "forces": AtomicTable,
}

# Batches wait until they hold this many numbers: a few large arrays are summed in a
# third of the time that many small ones take.
WAITING_NUMBERS = 2**18


class Accumulator:
    """Sufficient statistics of packed targets."""

    def __init__(self, keep_structures: bool = False) -> None:
        """Start empty; a robust fit keeps single structures."""
        self.energies = CompositionTable(keep_structures=keep_structures)
        self.virials = CompositionTable()
        self.forces = AtomicTable()

    def update(self, batches: Iterable[Any]) -> None:
        """Add batches, several at a time.

        Args:
            batches: as :func:`read_labels` takes them.

        Raises:
            ValueError: if one of them is wrong. Some of those before it are then
                added, and some not.
        """
        waiting: list[Labels] = []
        numbers = 0
        for batch in batches:
            labels = read_labels(batch)
            if waiting and labels.layout != waiting[0].layout:
                self._add(waiting)
                waiting, numbers = [], 0
            waiting.append(labels)
            numbers += labels.numbers
            if numbers >= WAITING_NUMBERS:
                self._add(waiting)
                waiting, numbers = [], 0
        if waiting:
            self._add(waiting)

    def _add(self, parts: list[Labels]) -> None:
        try:
            self._add_labels(join(parts))
        except ValueError:
            # Messages count structures and atoms from the start of their batch.
            for labels in parts:
                Accumulator(self.keep_structures)._add_labels(labels)
            raise

    def _add_labels(self, labels: Labels) -> None:
        for key, table in (("energy", self.energies), ("virial", self.virials)):
            if key not in labels.targets:
                continue
            values, composition = split_structure_target(labels.targets[key])
            if key == "virial":
                values = virial_mean_square(values)
            weight, isolated = labels.weights.get(key), labels.isolated
            if isolated is not None and not np.all(labels.size):
                # A structure without atoms is padding: it is not even counted.
                real = composition.any(axis=1)
                values, composition, isolated = (
                    values[real],
                    composition[real],
                    isolated[real],
                )
                weight = None if weight is None else weight[real]
            table.update(composition, values, weight, isolated)
        if "forces" in labels.targets:
            forces, numbers, index = split_atom_target(labels.targets["forces"])
            if labels.isolated is not None:
                _check_index(index, labels)
                if labels.isolated.any():
                    # Zero by symmetry: no draws from a distribution.
                    owner = index + _of_atoms(_first(labels.structures), labels)
                    numbers = np.where(labels.isolated[owner], 0, numbers)
            self.forces.update(numbers, forces, labels.weights.get("forces"))

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


def _check_index(index: NDArray, labels: Labels) -> None:
    if not index.size:
        return
    wrong = (index < 0) | (index >= _of_atoms(labels.structures, labels))
    if wrong.any():
        raise ValueError(
            "The structure index of an atom must be one of the structures of the "
            f"batch, 0 to {labels.structures[0] - 1}. Received: {index.min()} to "
            f"{index.max()}. Pack forces with `tfpes.targets.atom_target`."
        )


def _first(numbers: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where each batch begins among the structures of all."""
    return np.cumsum((0, *numbers[:-1]))


def _of_atoms(values: Any, labels: Labels) -> NDArray:
    """Return for each atom the value of its batch."""
    return np.repeat(values, labels.atoms)
