"""The preprocessing layer that holds the statistics of a data set."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpes.layers.accumulator import Accumulator
from tfpes.layers.adapt_progress import with_progress
from tfpes.layers.given import Given, Values
from tfpes.layers.standardization import Standardization
from tfpes.statistics import FitOptions, Report
from tfpes.statistics.file import read_statistics, write_statistics

_GATHERED = "gathered_"
"""What the names of stored sufficient statistics begin with."""


@keras.saving.register_keras_serializable(package="tfpes")
class PESNormalization(Standardization):
    """Standardizes energies, forces and virials with per-element statistics.

        E' = (E - Σ n_z μ_z) / s,      s² = Σ n_z σ_z² + N² κ²
        F'_i = F_i / η_z
        W' = (p - Σ n_z π_z) / (√3 s_p) + D / s_d,     W = p + D,  p = tr W / 3
        s_p² = Σ n_z τ_p,z² + N² κ_p²,                 s_d² = Σ n_z τ_z² + N² κ_d²

    All are then unitless, with unit variance whatever the size and the composition
    of a structure. The statistics are learned by :meth:`adapt`, given, or both; those
    given are kept and the rest is fitted around them. They are float64 weights under
    any policy, read at each use, so that a traced function sees a later ``adapt``.

    Example:
        >>> from tfpes.targets import structure_target
        >>> copper = np.zeros((4, 119))
        >>> copper[:, 29] = [1, 2, 3, 6]
        >>> norm = PESNormalization(isolated_atoms="include")
        >>> norm.adapt({"energy": structure_target([-1.1, -1.8, -3.3, -5.8], copper)})
        >>> norm.energy_baseline(copper).numpy().round(6)
        array([-1., -2., -3., -6.])
        >>> norm = PESNormalization(energy_mean={"H": -1.0}, energy_variance={"H": 0.5})
        >>> hydrogen = np.zeros((1, 119))
        >>> hydrogen[0, 1] = 2.0
        >>> norm.standardize_energy([-1.5], hydrogen).numpy()
        array([0.5])

    Args:
        energy_mean: μ_z, eV (symbol or Z to number, or an array indexed by Z).
        energy_variance: σ_z², eV².
        collective_variance: κ², eV².
        force_scale: η_z, eV/Å.
        virial_scale: τ_z, of the virial without its trace, eV.
        size_law: ``"independent"`` (κ = 0), ``"collective"`` (κ is fitted) or
            ``"auto"`` (κ where the data clearly ask for it).
        per_element: False for one variance of all elements.
        prior_strength: imaginary structures of each element at the common scales.
        robust: pull outliers in to 2.5 standard deviations.
        isolated_atoms: ``"exclude"`` or ``"include"`` single atoms without neighbours,
            whose energies are no draws from the distribution of the others.
        invert: make ``norm(targets)`` turn standardized labels into physical ones.
        pressure_mean: π_z, of tr W / 3, eV.
        pressure_scale: τ_p,z, of tr W / 3, eV; τ_z/√3 if ``virial_scale`` is alone.
        **kwargs: ``name``, ``dtype``, ``trainable``.

    Attributes:
        options: how :meth:`adapt` fits, a :class:`tfpes.statistics.FitOptions`. Assign
            another one to adapt anew in another way.

    Call arguments:
        targets: dict of packed targets (:mod:`tfpes.targets`).

    Returns:
        The same dict with standardized labels.

    Raises:
        TypeError: for an option of a wrong kind.
        ValueError: for an option or a given statistic that makes no sense.
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
        pressure_mean: Values = None,
        pressure_scale: Values = None,
        **kwargs: Any,
    ) -> None:
        """Create the weights from what is given."""
        super().__init__(
            Given.check(
                collective_variance,
                energy_mean=energy_mean,
                energy_variance=energy_variance,
                force_scale=force_scale,
                pressure_mean=pressure_mean,
                pressure_scale=pressure_scale,
                virial_scale=virial_scale,
            ),
            invert,
            **kwargs,
        )
        self.options = FitOptions(
            size_law=size_law,
            per_element=per_element,
            prior_strength=prior_strength,
            robust=robust,
            isolated_atoms=isolated_atoms,
        )
        self._report: Report | None = None
        self.reset_state()

    def adapt(
        self,
        data: tf.data.Dataset | Iterable[Any],
        *,
        steps: int | None = None,
        verbose: int | str = "auto",
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
        batches = [data] if isinstance(data, dict | tuple) else data
        accumulator = Accumulator(self.options.robust)
        accumulator.update(with_progress(batches, steps, verbose))
        self._finalize(accumulator)

    def reset_state(self) -> None:
        """Forget what :meth:`update_state` gathered; the statistics stay."""
        self._accumulator = Accumulator(self.options.robust)

    def update_state(self, batch: Any) -> None:
        """Gather a batch; :meth:`finalize_state` makes it count.

        What was gathered is saved with the weights, so that a layer loaded from a
        file goes on from there. :meth:`reset_state` before saving leaves it out.

        Raises:
            ValueError: as :meth:`adapt`; nothing of the batch is then gathered.
        """
        fresh = Accumulator(self.options.robust)
        fresh.update([batch])
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
            self._check_robust(layer.options.robust, "a layer")
        for layer in layers:
            self._accumulator.merge(layer._accumulator)

    def finalize_state(self) -> None:
        """Fit the statistics to what was gathered.

        Raises:
            ValueError: if nothing was gathered. The layer is then unchanged.
        """
        self._finalize(self._accumulator)

    def _finalize(self, accumulator: Accumulator) -> None:
        statistics, report = accumulator.fit(self.options, self._given)
        # Nothing can fail from here on: the layer changes as a whole or not at all.
        self._accumulator, self._report = accumulator, report
        self.assign_statistics({**self._given.weights(), **statistics})

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

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, and the statistics as they are now.

        The statistics are part of the configuration, so that copies (``from_config``,
        ``clone_model``, a loss in a saved file) are adapted as well.
        """
        return {**super().get_config(), **dataclasses.asdict(self.options)}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write statistics, options and report to a file that people can read.

        Numbers keep all their digits. The file is written completely or not at all.

        Raises:
            RuntimeError: if there are no statistics yet.
        """
        if not self.is_adapted:
            raise RuntimeError(
                "`to_json` writes statistics. Received: a layer without any. Call "
                "`adapt(dataset)`, or pass `energy_variance` or `force_scale`."
            )
        write_statistics(
            path,
            self.statistics,
            self.options,
            self._given.as_dict(),
            None if self._report is None else self._report.as_dict(),
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "PESNormalization":
        """Make a layer with statistics, options and report from :meth:`to_json`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no file of statistics, a newer or a damaged one.
        """
        statistics, options, given, report = read_statistics(path)
        layer = cls(**given, **dataclasses.asdict(options))
        layer.assign_statistics(statistics)
        if report is not None:
            layer._report = Report(report, report.pop("warnings"))
        return layer

    def save_own_variables(self, store: Any) -> None:
        """Store the statistics, and what was gathered, under their names."""
        super().save_own_variables(store)
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
        stored = list(store.keys())
        gathered = {
            name.removeprefix(_GATHERED): np.asarray(store[name])
            for name in stored
            if name.startswith(_GATHERED)
        }
        accumulator = Accumulator(self.options.robust)
        if gathered:
            accumulator = Accumulator.from_state(gathered)
            self._check_robust(accumulator.keep_structures, "a file")
        super().load_own_variables(store)
        if stored:
            self._accumulator, self._report = accumulator, None

    def _check_robust(self, robust: bool, source: str) -> None:
        if robust != self.options.robust:
            raise ValueError(
                "What is gathered depends on the option `robust`, so that layers and "
                "files must have the same option `robust`. Received: "
                f"{source} with `robust={robust}`, for a layer with "
                f"`robust={self.options.robust}`. Make both with the same option."
            )
