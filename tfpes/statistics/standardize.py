"""E', F' and W': the formulas, for arrays and tensors alike, and their numbers."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS, join_symbols
from tfpes.statistics.file import read_statistics

NAMES = (
    *("energy_mean", "energy_variance", "collective_variance"),
    "force_scale",
    "pressure_mean",
    "pressure_scale",
    "collective_pressure_variance",
    "virial_scale",
    "collective_virial_variance",
    "seen",
)
"""Of the statistics: one number per element, but for the ``collective`` ones."""


class Laws:
    """Formulas of standardized labels, of arrays or of tensors.

    A class of either kind says how it takes numbers and sums them; no formula but here.
    """

    def value(self, name: str) -> Any:
        """Return one of the statistics."""
        raise NotImplementedError

    def floats(self, values: Any, like: Any = None) -> Any:
        """Return floating point numbers in a dtype: their own, that of another."""
        raise NotImplementedError

    def sum_of_known(self, composition: Any, values: Any) -> Any:
        """Return ``Σ n_z v_z``, (S,) float64, where all elements were seen."""
        raise NotImplementedError

    def size(self, composition: Any) -> Any:
        """Return the number of atoms, (S,) float64."""
        raise NotImplementedError

    def root(self, square: Any, size: Any) -> Any:
        """Return the root, 1 for no atoms."""
        raise NotImplementedError

    def force_scale_of(self, atomic_numbers: Any) -> Any:
        """Return η_z of each atom, eV/Å: (A,) or (B, N) float64."""
        raise NotImplementedError

    def require_known(self, composition: Any) -> None:
        """Raise a ValueError for elements that were never seen."""
        known = np.asarray(self.value("seen"))
        unseen = np.flatnonzero(known == 0)
        unseen = unseen[unseen > 0]
        # With every element seen, `unseen` is empty: a later reshape would fail.
        counts = np.asarray(composition).reshape(-1, NUMBER_OF_COLUMNS)[:, unseen]
        if counts.any():
            structure, column = np.argwhere(counts > 0)[0]
            seen = join_symbols(np.flatnonzero(known)) or "none"
            culprit = join_symbols([unseen[column]])
            raise ValueError(
                f"`{type(self).__name__}` knows the elements {seen}. Received: "
                f"structure {structure} holds {culprit}. Adapt on a data set that "
                f"contains {culprit}, or pass `energy_mean` and `energy_variance` for "
                "it."
            )

    def energy_baseline(self, composition: Any) -> Any:
        """Return ``Σ n_z μ_z``, eV: (S,) float64 for a composition (S, 119)."""
        return self.sum_of_known(composition, self.value("energy_mean"))

    def energy_scale(self, composition: Any) -> Any:
        """Return ``√(Σ n_z σ_z² + N² κ²)``, eV: (S,) float64, 1 for no atoms."""
        variance = self.value("energy_variance")
        return self._scale(composition, variance, "collective_variance")

    def pressure_baseline(self, composition: Any) -> Any:
        """Return ``Σ n_z π_z``, the mean of tr W / 3, eV: (S,) float64."""
        return self.sum_of_known(composition, self.value("pressure_mean"))

    def pressure_scale_of(self, composition: Any) -> Any:
        """Return ``√(Σ n_z τ_p,z² + N² κ_p²)`` of tr W / 3, eV: (S,) float64."""
        variance = self.value("pressure_scale") ** 2
        return self._scale(composition, variance, "collective_pressure_variance")

    def virial_scale_of(self, composition: Any) -> Any:
        """Return ``√(Σ n_z τ_z² + N² κ_d²)`` of W without its trace, eV: (S,)."""
        variance = self.value("virial_scale") ** 2
        return self._scale(composition, variance, "collective_virial_variance")

    def _scale(self, composition: Any, variance: Any, collective: str) -> Any:
        size, total = self.size(composition), self.sum_of_known(composition, variance)
        return self.root(total + size**2 * self.value(collective), size)

    def standardize_energy(self, energy: Any, composition: Any) -> Any:
        """Return ``E' = (E - baseline) / scale``, (S,) float64."""
        baseline = self.energy_baseline(composition)
        shifted = self.floats(energy, baseline) - baseline
        return shifted / self.energy_scale(composition)

    def destandardize_energy(self, energy: Any, composition: Any) -> Any:
        """Undo :meth:`standardize_energy`, (S,) float64 eV."""
        baseline = self.energy_baseline(composition)
        scaled = self.floats(energy, baseline) * self.energy_scale(composition)
        return scaled + baseline

    def standardize_forces(self, forces: Any, atomic_numbers: Any) -> Any:
        """Return ``F' = F / η_z``, (A, 3) or (B, N, 3), in the dtype of the forces."""
        forces, scale = self.floats(forces), self.force_scale_of(atomic_numbers)
        return forces / self.floats(scale, forces)[..., None]

    def destandardize_forces(self, forces: Any, atomic_numbers: Any) -> Any:
        """Undo :meth:`standardize_forces`, (A, 3) or (B, N, 3) eV/Å."""
        forces, scale = self.floats(forces), self.force_scale_of(atomic_numbers)
        return forces * self.floats(scale, forces)[..., None]

    def standardize_virial(self, virial: Any, composition: Any) -> Any:
        """Return ``W' = p'/√3 + D'``, (S, 3, 3) float64, of unit variance six times.

        ``W = p + D``, ``p = tr W / 3``; ``p' = (p - Σ n_z π_z) / s_p``; ``D' = D/s_d``.
        p' counts as much as each of the five components of D': ``‖W'‖² = p'² + ‖D'‖²``.
        """
        baseline = self.pressure_baseline(composition)
        pressure, deviator = _split_trace(self.floats(virial, baseline))
        pressure = (pressure - baseline) / self.pressure_scale_of(composition)
        scale = self.virial_scale_of(composition)[:, None, None]
        return deviator / scale + _isotropic(pressure / 3**0.5)

    def destandardize_virial(self, virial: Any, composition: Any) -> Any:
        """Undo :meth:`standardize_virial`, (S, 3, 3) float64 eV."""
        baseline = self.pressure_baseline(composition)
        pressure, deviator = _split_trace(self.floats(virial, baseline))
        pressure = pressure * 3**0.5 * self.pressure_scale_of(composition)
        scale = self.virial_scale_of(composition)[:, None, None]
        return deviator * scale + _isotropic(pressure + baseline)


def _split_trace(tensor: Any) -> tuple[Any, Any]:
    """Return a third of the trace, (S,), and what is without trace, (S, 3, 3)."""
    third = (tensor[:, 0, 0] + tensor[:, 1, 1] + tensor[:, 2, 2]) / 3
    return third, tensor - _isotropic(third)


def _isotropic(values: Any) -> Any:
    """Return numbers (S,) times unit matrices, (S, 3, 3)."""
    return values[:, None, None] * np.eye(3)


class Statistics(Laws, Mapping[str, NDArray[np.float64]]):
    """The statistics of a data set in NumPy, and what they do to labels.

    What ``tfpes stats --save`` or ``PESNormalization.to_json`` wrote, without
    TensorFlow; a mapping of the names of the statistics to arrays.

    Args:
        values: numbers by name, (119,) or () as the layer holds them.

    Example:
        >>> values = {name: np.ones(119) for name in NAMES}
        >>> values |= {name: 0.0 for name in NAMES if name.startswith("collective")}
        >>> water = np.eye(119)[[8]] + 2 * np.eye(119)[[1]]
        >>> Statistics(values).standardize_energy([6.0], water)
        array([1.73205081])
    """

    def __init__(self, values: Mapping[str, ArrayLike]) -> None:
        """Take the numbers."""
        self._values = {name: np.asarray(values[name], np.float64) for name in NAMES}

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Statistics":
        """Read a file of statistics.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no file of statistics, a newer or a damaged one.
        """
        return cls(read_statistics(path)[0])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Return one of the statistics."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._values)

    def value(self, name: str) -> NDArray[np.float64]:
        """Return one of the statistics."""
        return self[name]

    def floats(self, values: Any, like: Any = None) -> NDArray:
        """Return an array, integers as float64."""
        array = np.asarray(values)
        if like is not None:
            return array.astype(like.dtype)
        floating = np.issubdtype(array.dtype, np.floating)
        return array if floating else array.astype(np.float64)

    def sum_of_known(self, composition: Any, values: Any) -> NDArray[np.float64]:
        """Return ``Σ n_z v_z``, (S,).

        Raises:
            ValueError: for an element that was never seen.
        """
        self.require_known(composition)
        return np.asarray(composition, np.float64) @ values

    def size(self, composition: Any) -> NDArray[np.float64]:
        """Return the number of atoms, (S,)."""
        return np.sum(composition, axis=-1, dtype=np.float64)

    def root(self, square: Any, size: Any) -> NDArray[np.float64]:
        """Return the root, 1 for no atoms.

        Raises:
            ValueError: for statistics that were learned without this label.
        """
        return _positive(np.sqrt(np.where(size > 0, square, 1.0)))

    def force_scale_of(self, atomic_numbers: Any) -> NDArray[np.float64]:
        """Return η_z of each atom, eV/Å.

        Raises:
            ValueError: for an element that was never seen, or statistics that were
                learned without forces.
        """
        numbers = np.asarray(atomic_numbers, int)
        self.require_known(np.bincount(numbers.ravel(), minlength=NUMBER_OF_COLUMNS))
        return _positive(self["force_scale"][numbers])


def _positive(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    if (scale == 0).any():
        raise ValueError(
            "`Statistics` standardize the labels that they were learned from. "
            "Received: a label whose scale is 0, since the data had none of it. Adapt "
            "on data that have it, or pass its scale to `PESNormalization`."
        )
    return scale
