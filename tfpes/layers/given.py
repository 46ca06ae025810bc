"""Statistics that are given rather than learned."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS, by_atomic_number, by_symbol

Values = Mapping[str | int, float] | NDArray | None
"""One number per element: a mapping of symbol or Z, or an array (119,)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """Checked statistics, NaN for elements whose value is not given.

    Args:
        per_element: ``energy_mean``, ``energy_variance``, ``force_scale``,
            ``pressure_mean``, ``pressure_scale`` and ``virial_scale`` by name, (119,)
            each.
        collective_variance: κ², eV², or None.
    """

    per_element: dict[str, NDArray[np.float64]]
    collective_variance: float | None

    @classmethod
    def check(cls, collective_variance: float | None, **values: Values) -> "Given":
        """Return what a user gives.

        Raises:
            ValueError: for unknown elements and values that make no sense.
        """
        if collective_variance is not None and not collective_variance >= 0:
            raise ValueError(
                "`collective_variance` must not be negative (eV²). Received: "
                f"{collective_variance}."
            )
        arrays = {
            name: by_atomic_number({} if value is None else value, name)
            for name, value in values.items()
        }
        for name, array in arrays.items():
            known = array[~np.isnan(array)]
            positive = not name.endswith("mean")
            if not np.isfinite(known).all() or (positive and (known <= 0).any()):
                raise ValueError(
                    f"`{name}` must be finite{' and positive' if positive else ''}. "
                    f"Received: {by_symbol(array)}."
                )
        return cls(arrays, collective_variance)

    def weights(self) -> dict[str, NDArray[np.float64]]:
        """Return the weights of a layer with nothing else; the rest is the mean."""
        weights = {}
        for name, given in self.per_element.items():
            known = given[~np.isnan(given)]
            # A scale of 0 says that there is none yet.
            fill = known.mean() if len(known) else 0.0
            values = np.where(np.isnan(given), fill, given)
            energy = name.startswith("energy")
            weights[name] = without_padding(values) if energy else values
        if not self.known_of("pressure_scale").any():
            # As if the pressure were no different from the other components.
            weights["pressure_scale"] = weights["virial_scale"] / np.sqrt(3)
        for part in ("pressure", "virial"):
            weights[f"collective_{part}_variance"] = np.array(0.0)
        # Alone it says nothing of energies yet.
        energies = self.known_of("energy_variance").any()
        collective = self.collective_variance if energies else 0.0
        weights["collective_variance"] = np.array(collective or 0.0)
        weights["seen"] = self.known.astype(np.float64)
        return weights

    @property
    def known(self) -> NDArray[np.bool_]:
        """The elements of the energies; of forces and virials if there are none."""
        energies = self.known_of("energy_variance")
        others = self.known_of("force_scale", "pressure_scale", "virial_scale")
        return energies if energies.any() else others

    def known_of(self, *names: str) -> NDArray[np.bool_]:
        """The elements for which any of these is given."""
        return np.any([~np.isnan(self.per_element[name]) for name in names], axis=0)

    def as_dict(self) -> dict[str, Any]:
        """Return what was given, None where nothing was."""
        return {
            **{
                name: None if np.isnan(values).all() else by_symbol(values)
                for name, values in self.per_element.items()
            },
            "collective_variance": self.collective_variance,
        }


def without_padding(values: NDArray) -> NDArray:
    """Set the number of padding atoms, Z = 0, to 0."""
    return np.where(np.arange(NUMBER_OF_COLUMNS) > 0, values, 0.0)
