"""What `adapt` gathers from batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.layers.batches import Columns, read_batch
from tfpes.layers.given import Given, without_padding
from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    Report,
    fit_energy,
    fit_forces,
    fit_virial,
    make_report,
)
from tfpes.targets import split_atom_target

# Batches wait until they hold this many numbers: a few large arrays are summed in a
# third of the time that many small ones take.
_WAITING_NUMBERS = 2**20  # 8 MB


class Accumulator:
    """Sufficient statistics of packed targets."""

    def __init__(self, keep_structures: bool = False) -> None:
        """Start empty; a robust fit keeps single structures."""
        self.keep_structures = keep_structures
        self.tables: dict[str, Any] = {
            "energies": CompositionTable(keep_structures=keep_structures),
            "pressures": CompositionTable(keep_structures=keep_structures),
            "deviators": CompositionTable(keep_structures=keep_structures),
            "forces": AtomicTable(),
        }

    def update(self, batches: Iterable[Any]) -> None:
        """Add batches, several at a time.

        Args:
            batches: as :func:`read_batch` takes them.

        Raises:
            ValueError: if one of them is wrong. Some of those before it are then
                added, and some not.
        """
        waiting: list[dict[str, Columns]] = []
        numbers = 0
        for batch in batches:
            columns = read_batch(batch)
            if waiting and _layout(columns) != _layout(waiting[0]):
                self._add(waiting)
                waiting, numbers = [], 0
            waiting.append(columns)
            numbers += sum(
                c.size for cs in columns.values() for c in cs if c is not None
            )
            if numbers >= _WAITING_NUMBERS:
                self._add(waiting)
                waiting, numbers = [], 0
        if waiting:
            self._add(waiting)

    def _add(self, batches: list[dict[str, Columns]]) -> None:
        try:
            for name in batches[0]:
                columns = zip(*(batch[name] for batch in batches), strict=True)
                parts = list(columns)
                if name == "forces":
                    parts[-1] = _one_after_another(parts[-1])
                first, values, *rest = map(_join, parts)
                if name == "forces":
                    # Whole targets are joined ten times as fast as three columns.
                    values = split_atom_target(values)[0]
                self.tables[name].update(first, values, *rest)
        except ValueError:
            if len(batches) > 1:
                # Messages count structures and atoms from the start of their batch.
                for batch in batches:
                    Accumulator(self.keep_structures)._add([batch])
            raise

    def merge(self, other: "Accumulator") -> None:
        """Add everything that another accumulator has seen."""
        for name, table in self.tables.items():
            table.merge(other.tables[name])

    @property
    def _has_energies(self) -> bool:
        # With or without labels.
        return self.tables["energies"].counts_seen["received"] > 0

    @property
    def _has_forces(self) -> bool:
        forces = self.tables["forces"]
        return bool(forces.atoms.any() or forces.missing.any())

    @property
    def is_empty(self) -> bool:
        """Whether no structure and no atom has been seen."""
        structures = self._has_energies or self.tables["pressures"].structures
        return not (structures or self._has_forces)

    def fit(
        self, options: FitOptions, given: Given
    ) -> tuple[dict[str, NDArray], Report | None]:
        """Fit statistics to everything that was seen.

        Args:
            options: how.
            given: statistics that are kept.

        Returns:
            Statistics by name, of the labels that there are, and a report if there are
            energies.

        Raises:
            ValueError: if no structure and no atom has been seen, or no label.
        """
        if self.is_empty:
            raise ValueError(
                "`adapt` needs at least one structure. Received: none. Check that the "
                "data set is not empty, and that a one-shot iterator is not used twice."
            )
        energies, pressures, deviators, forces = self.tables.values()
        force_fit = fit_forces(forces, options) if self._has_forces else None
        virial_fit, found = None, {}
        if force_fit is not None:
            found["force_scale"] = force_fit.scale
        if pressures.structures:
            virial_fit = fit_virial(pressures, deviators, options)
            found |= virial_fit.weights()
        for name in found.keys() & given.per_element.keys():
            kept = given.per_element[name]
            found[name] = np.where(np.isnan(kept), found[name], kept)
        if not self._has_energies:
            if not given.known_of("energy_variance").any():
                fits = [fit.seen for fit in (force_fit, virial_fit) if fit is not None]
                found["seen"] = np.any([*fits, given.known], axis=0).astype(np.float64)
            return found, None
        variance = given.per_element["energy_variance"]
        energy = fit_energy(
            energies,
            options,
            energy_mean=given.per_element["energy_mean"],
            energy_variance=variance,
            collective_variance=given.collective_variance,
        )
        found["energy_mean"] = energy.mean
        found["energy_variance"] = without_padding(energy.variance)
        found["collective_variance"] = np.array(energy.collective_variance)
        found["seen"] = (energy.seen | ~np.isnan(variance)).astype(np.float64)
        report = make_report(
            energies,
            energy,
            forces=forces if force_fit else None,
            force_fit=force_fit,
            virial=pressures if virial_fit else None,
            virial_fit=virial_fit,
        )
        return found, report

    def state(self) -> dict[str, NDArray]:
        """Return everything as arrays of numbers, for :meth:`from_state`."""
        return {
            f"{part}_{name}": array
            for part, table in self.tables.items()
            for name, array in table.state().items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray]) -> "Accumulator":
        """Return the accumulator that `state` was taken from.

        Raises:
            ValueError: if the state is damaged or of another version.
        """
        accumulator = cls()
        for part, table in accumulator.tables.items():
            prefix = f"{part}_"
            arrays = {
                name.removeprefix(prefix): np.asarray(array)
                for name, array in state.items()
                if name.startswith(prefix)
            }
            accumulator.tables[part] = type(table).from_state(arrays)
        accumulator.keep_structures = accumulator.tables["energies"].keep_structures
        return accumulator


def _layout(columns: dict[str, Columns]) -> list[tuple]:
    """Return what must agree between batches that are joined."""
    return [(name, *(c is None for c in parts)) for name, parts in columns.items()]


def _join(parts: tuple[Any, ...]) -> NDArray | None:
    if parts[0] is None or len(parts) == 1:
        return parts[0]
    return np.concatenate(parts)


def _one_after_another(indices: tuple[NDArray, ...]) -> tuple[NDArray, ...]:
    """Count on from one batch to the next."""
    number = [index.max(initial=-1) + 1 for index in indices]
    before = np.cumsum([0, *number[:-1]], dtype=np.int64)
    return tuple(np.add(index, k) for index, k in zip(indices, before, strict=True))
