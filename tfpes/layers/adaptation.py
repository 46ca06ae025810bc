"""Learning the statistics of a data set."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfpes.layers.accumulator import Accumulator
from tfpes.layers.adapt_progress import AdaptProgress
from tfpes.layers.standardization import Standardization, Values, without_padding
from tfpes.statistics import (
    FitOptions,
    Report,
    fit_energy,
    fit_forces,
    fit_virial,
    make_report,
)


class Adaptation(Standardization):
    """Learns statistics from batches, with what is given held fixed.

    The base of :class:`PESNormalization`, which describes the arguments and also
    writes and reads files.
    """

    def __init__(
        self,
        given: dict[str, Values],
        collective_variance: float | None,
        invert: bool,
        *,
        size_law: str,
        per_element: bool,
        prior_strength: float,
        robust: bool,
        isolated_atoms: str,
        **kwargs: Any,
    ) -> None:
        """Create the weights from what is given."""
        super().__init__(given, collective_variance, invert, **kwargs)
        self.size_law = size_law
        self.per_element = per_element
        self.prior_strength = prior_strength
        self.robust = robust
        self.isolated_atoms = isolated_atoms
        self._accumulator = Accumulator(robust)
        self._report: Report | None = None

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
        accumulator.update(progress.count(itertools.islice(batches, steps)))
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
        fresh.update([batch])
        self._accumulator.merge(fresh)

    def merge_state(self, layers: Iterable["Adaptation"]) -> None:
        """Gather what other layers have gathered.

        Raises:
            TypeError: if one of them is no ``PESNormalization``.
            ValueError: if one of them gathers something else, because its option
                ``robust`` differs. Nothing is then gathered.
        """
        layers = list(layers)
        for layer in layers:
            if not isinstance(layer, Adaptation):
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
        options = FitOptions(
            size_law=self.size_law,
            per_element=self.per_element,
            prior_strength=self.prior_strength,
            robust=self.robust,
            isolated_atoms=self.isolated_atoms,
        )
        energy = forces = virial = report = None
        if accumulator.has_forces:
            forces = fit_forces(accumulator.forces, options)
        if accumulator.has_virials:
            virial = fit_virial(accumulator.virials, options)
        if accumulator.has_energies:
            energy = fit_energy(
                accumulator.energies,
                options,
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
