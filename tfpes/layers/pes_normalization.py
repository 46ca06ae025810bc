"""The preprocessing layer that holds the statistics of a data set."""

import os
from typing import Any

import keras
import numpy as np

from tfpes.elements import by_symbol
from tfpes.layers.accumulator import Accumulator
from tfpes.layers.adaptation import Adaptation
from tfpes.layers.standardization import WEIGHTS, Values
from tfpes.statistics import Report
from tfpes.statistics.file import OPTIONS, read_statistics, write_statistics

_GATHERED = "gathered_"
"""What the names of stored sufficient statistics begin with."""


@keras.saving.register_keras_serializable(package="tfpes")
class PESNormalization(Adaptation):
    """Standardizes energies, forces and virials with per-element statistics.

        E' = (E - Σ n_z μ_z) / s,      s² = Σ n_z σ_z² + N² κ²
        F'_i = F_i / η_z,              W' = W / √(Σ n_z τ_z²)

    All are then unitless, with unit variance whatever the size and the composition
    of a structure. The statistics are learned by :meth:`adapt`, given, or both; those
    given are kept and the rest is fitted around them. They are float64 weights under
    any dtype policy, read each time they are used, so that a traced function sees a
    later ``adapt``.

    Args:
        energy_mean: μ_z, eV (symbol or Z to number, or an array indexed by Z).
        energy_variance: σ_z², eV².
        collective_variance: κ², eV².
        force_scale: η_z, eV/Å.
        virial_scale: τ_z, eV.
        size_law: ``"independent"`` (κ = 0), ``"collective"`` (κ is fitted) or
            ``"auto"`` (κ where the data clearly ask for it).
        per_element: False for one variance common to all elements.
        prior_strength: imaginary atoms of each element that hold its variance near
            the common one.
        robust: pull outliers in to 2.5 standard deviations.
        isolated_atoms: ``"exclude"`` or ``"include"`` single atoms without neighbours,
            whose energies are no draws from the distribution of the others.
        invert: make ``norm(targets)`` turn standardized labels into physical ones.
        **kwargs: ``name``, ``dtype``, ``trainable``.

    Call arguments:
        targets: dict of packed targets (:mod:`tfpes.targets`).

    Returns:
        The same dict with standardized labels.

    Example:
        >>> norm = PESNormalization(energy_mean={"H": -1.0}, energy_variance={"H": 0.5})
        >>> hydrogen = np.zeros((1, 119))
        >>> hydrogen[0, 1] = 2.0
        >>> norm.standardize_energy([-1.5], hydrogen).numpy()
        array([0.5])
    """

    def __init__(
        self,
        energy_mean: Values = None,
        energy_variance: Values = None,
        collective_variance: float | None = None,
        force_scale: Values = None,
        virial_scale: Values = None,
        size_law: str = "independent",
        per_element: bool = True,
        prior_strength: float = 10.0,
        robust: bool = False,
        isolated_atoms: str = "exclude",
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        """Create the weights from what is given."""
        super().__init__(
            {
                "energy_mean": energy_mean,
                "energy_variance": energy_variance,
                "force_scale": force_scale,
                "virial_scale": virial_scale,
            },
            collective_variance,
            invert,
            size_law=size_law,
            per_element=per_element,
            prior_strength=prior_strength,
            robust=robust,
            isolated_atoms=isolated_atoms,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, and the statistics as they are now.

        The statistics are part of the configuration, so that copies (``from_config``,
        ``clone_model``, a loss in a saved file) are adapted as well.
        """
        config = {
            **super().get_config(),
            **{
                name: None if np.isnan(given).all() else by_symbol(given)
                for name, given in self._given.items()
            },
            "collective_variance": self._given_collective,
            **{name: getattr(self, name) for name in OPTIONS},
            "invert": self.invert,
        }
        if self.is_adapted:
            config["statistics"] = {
                name: getattr(self, name).numpy().tolist() for name in WEIGHTS
            }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PESNormalization":
        """Make a layer from what :meth:`get_config` returned."""
        config = dict(config)
        statistics = config.pop("statistics", None)
        layer = cls(**config)
        for name, value in (statistics or {}).items():
            getattr(layer, name).assign(value)
        return layer

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write statistics, options and report to a file that people can read.

        Numbers keep all their digits. The file is written completely or not at all.

        Args:
            path: of the file.

        Raises:
            RuntimeError: if there are no statistics yet.
        """
        if not self.is_adapted:
            raise RuntimeError(
                "`to_json` writes statistics. Received: a layer without any. Call "
                "`adapt(dataset)`, or pass `energy_variance` or `force_scale`."
            )
        config = self.get_config()
        write_statistics(
            path,
            {name: getattr(self, name).numpy() for name in WEIGHTS},
            config,
            {name: config[name] for name in (*self._given, "collective_variance")},
            None if self._report is None else self._report.as_dict(),
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "PESNormalization":
        """Make a layer from a file that :meth:`to_json` wrote.

        Args:
            path: of the file.

        Returns:
            A layer with the same statistics, options and report.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no file of statistics, a newer or a damaged one.
        """
        statistics, options, given, report = read_statistics(path)
        layer = cls(**given, **options)
        for name, value in statistics.items():
            getattr(layer, name).assign(value)
        if report is not None:
            layer._report = Report(report, report.pop("warnings"))
        return layer

    def save_own_variables(self, store: Any) -> None:
        """Store the statistics, and what was gathered, under their names."""
        for name in WEIGHTS:
            store[name] = getattr(self, name).numpy()
        if not self._accumulator.is_empty:
            for name, array in self._accumulator.state().items():
                store[f"{_GATHERED}{name}"] = array

    def load_own_variables(self, store: Any) -> None:
        """Load the statistics, and what was gathered if the file has it.

        Raises:
            ValueError: if one of the statistics is missing, or what was gathered is
                damaged or belongs to another option ``robust``. The layer is then
                unchanged.
        """
        stored = set(store.keys())
        if not stored and self.is_adapted:
            # Keras stores a layer that a model and its losses share only once; the
            # copy of a loss has its statistics from its configuration.
            return
        missing = [name for name in WEIGHTS if name not in stored]
        if missing:
            raise ValueError(
                f"A file of this layer holds {', '.join(WEIGHTS)}. Received: one "
                f"without {', '.join(missing)}. It was not written by this class."
            )
        gathered = {
            name.removeprefix(_GATHERED): np.asarray(store[name])
            for name in stored
            if name.startswith(_GATHERED)
        }
        accumulator = Accumulator(self.robust)
        if gathered:
            accumulator = Accumulator.from_state(gathered)
            if accumulator.keep_structures != self.robust:
                raise ValueError(
                    "A file of this layer is loaded into one with the same option "
                    f"`robust`. Received: a file with `robust={not self.robust}`. "
                    "Make the layer with that option."
                )
        for name in WEIGHTS:
            getattr(self, name).assign(np.asarray(store[name]))
        self._accumulator = accumulator
        self._report = None
