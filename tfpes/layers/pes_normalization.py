"""The preprocessing layer that holds the statistics of a data set."""

import itertools
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfpes.elements import by_symbol
from tfpes.layers.accumulator import Accumulator
from tfpes.layers.adapt_progress import AdaptProgress
from tfpes.layers.standardization import (
    WEIGHTS,
    Standardization,
    Values,
    without_padding,
)
from tfpes.layers.statistics_file import OPTIONS, read_statistics, write_statistics
from tfpes.statistics import Report, fit_energy, fit_forces, fit_virial, make_report

_GATHERED = "gathered_"
"""What the names of stored sufficient statistics begin with."""


@keras.saving.register_keras_serializable(package="tfpes")
class PESNormalization(Standardization):
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
            **kwargs,
        )
        self.size_law = size_law
        self.per_element = per_element
        self.prior_strength = prior_strength
        self.robust = robust
        self.isolated_atoms = isolated_atoms
        self._accumulator = Accumulator(robust)
        self._report: Report | None = None

    # -- statistics ---------------------------------------------------------------

    def adapt(
        self, data: Any, *, steps: int | None = None, verbose: int | str = "auto"
    ) -> None:
        """Learn the statistics from a data set, replacing what was learned before.

        Args:
            data: a ``tf.data.Dataset`` or another iterable of batches, each
                ``targets``, ``(inputs, targets)`` or ``(inputs, targets, weights)``;
                or a single such batch. A weight counts a structure (or atom) that
                many times.
            steps: number of batches to use; all by default.
            verbose: 1 shows a progress bar, ``"auto"`` does so in a terminal.

        Raises:
            ValueError: if there is no data or no label. The layer is then unchanged.
        """
        if steps is not None and steps < 0:
            raise ValueError(
                f"`steps` is a number of batches, or None for all. Received: {steps}."
            )
        batches = [data] if isinstance(data, dict | tuple) else data
        progress = AdaptProgress(batches, steps, verbose)
        accumulator = Accumulator(self.robust)
        # An iterator gives no batch more than are used.
        for batch in itertools.islice(batches, steps):
            accumulator.update(batch)
            progress.advance()
        progress.close()
        self._finalize(accumulator)

    def reset_state(self) -> None:
        """Forget what :meth:`update_state` gathered; the statistics stay."""
        self._accumulator = Accumulator(self.robust)

    def update_state(self, batch: Any) -> None:
        """Gather a batch; :meth:`finalize_state` makes it count.

        What was gathered is saved with the weights, so that a layer loaded from a
        file goes on from there. :meth:`reset_state` before saving leaves it out.

        Raises:
            ValueError: as :meth:`adapt`; nothing of the batch is then gathered.
        """
        fresh = Accumulator(self.robust)
        fresh.update(batch)
        self._accumulator.merge(fresh)

    def merge_state(self, layers: Iterable["PESNormalization"]) -> None:
        """Gather what other layers have gathered.

        Raises:
            TypeError: if one of them is no ``PESNormalization``.
            ValueError: if one of them gathers something else, because its option
                ``robust`` differs. Nothing is then gathered.
        """
        layers = list(layers)
        for layer in layers:
            if not isinstance(layer, PESNormalization):
                raise TypeError(
                    "`merge_state` takes `PESNormalization` layers. Received: "
                    f"{type(layer).__name__}."
                )
            if layer.robust != self.robust:
                raise ValueError(
                    "`merge_state` takes layers with the same option `robust`, which "
                    f"decides what is gathered. Received: `robust={layer.robust}`, "
                    f"for a layer with `robust={self.robust}`. Adapt both with the "
                    "same option."
                )
        for layer in layers:
            self._accumulator.merge(layer._accumulator)

    def finalize_state(self) -> None:
        """Fit the statistics to what was gathered.

        Raises:
            ValueError: if nothing was gathered. The layer is then unchanged.
        """
        self._finalize(self._accumulator)

    def _finalize(self, accumulator: Accumulator) -> None:
        if accumulator.is_empty:
            raise ValueError(
                "`adapt` needs at least one structure. Received: none. Check that the "
                "data set is not empty, and that a one-shot iterator is not used twice."
            )
        energy = forces = virial = report = None
        if accumulator.has_forces:
            forces = fit_forces(accumulator.forces, self.prior_strength)
        if accumulator.has_virials:
            virial = fit_virial(accumulator.virials, self.prior_strength)
        if accumulator.has_energies:
            energy = fit_energy(
                accumulator.energies,
                size_law=self.size_law,
                per_element=self.per_element,
                prior_strength=self.prior_strength,
                robust=self.robust,
                isolated_atoms=self.isolated_atoms,
                energy_mean=self._given["energy_mean"],
                energy_variance=self._given["energy_variance"],
                collective_variance=self._given_collective,
            )
            report = make_report(
                accumulator.energies,
                energy,
                forces=accumulator.forces if forces else None,
                force_fit=forces,
                virial=accumulator.virials if virial else None,
                virial_fit=virial,
            )
        # Nothing can fail from here on: the layer changes as a whole or not at all.
        self._accumulator = accumulator
        self._report = report
        self._assign_given()
        if energy is not None:
            self.energy_mean.assign(energy.mean)
            self.energy_variance.assign(without_padding(energy.variance))
            self.collective_variance.assign(energy.collective_variance)
            given = ~np.isnan(self._given["energy_variance"])
            self.seen.assign((energy.seen | given).astype(np.float64))
        for name, fit in (("force_scale", forces), ("virial_scale", virial)):
            if fit is not None:
                given = self._given[name]
                values = np.where(np.isnan(given), fit.scale, given)
                getattr(self, name).assign(values)

    @property
    def report(self) -> Report:
        """What the last ``adapt`` found, to print.

        Raises:
            RuntimeError: before ``adapt``, and in a layer loaded from a file.
        """
        if self._report is None:
            raise RuntimeError(
                "`report` describes the data of the last `adapt`. Received: a layer "
                "that was not adapted in this process. Call `adapt(dataset)`, or "
                "`finalize_state()` if the file holds what was gathered."
            )
        return self._report

    @property
    def has_report(self) -> bool:
        """Whether there is a :attr:`report`."""
        return self._report is not None

    # -- serialization ------------------------------------------------------------

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
