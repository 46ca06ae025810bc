"""What there is to know about a data set before, or after, a training on it."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.diagnostics import geometry, outliers
from tfpes.diagnostics.advice import advise
from tfpes.diagnostics.findings import Diagnosis, ModelErrors
from tfpes.diagnostics.loss_shares import balances, loss_shares
from tfpes.diagnostics.peers import peer_weights
from tfpes.diagnostics.shape import shape, size_slope
from tfpes.evaluation import Comparison, Evaluation, compositions, evaluate
from tfpes.inference.predictions import Model
from tfpes.layers import PESNormalization

_WORST = 15


def diagnose(
    structures: Structures,
    model: Model | None = None,
    *,
    batch_size: int = 16,
    trained_on: NDArray[np.bool_] | None = None,
) -> Diagnosis:
    """Examine the labels of a data set, and the errors of a model on them.

    Args:
        structures: with energies, and with forces and virials where there are any.
            With a model, neighbour lists must be those of its cutoff.
        model: as for :func:`tfpes.evaluate`, or None.
        batch_size: structures at a time, for the model.
        trained_on: which of these the model was trained on, (S,), or None.

    Returns:
        The findings.

    Raises:
        ValueError: for structures without energies, or with elements that the model
            does not know.

    Example:
        >>> import tfpes
        >>> structures = tfpes.data.load("alloys")[:50]
        >>> diagnosis = diagnose(structures)
        >>> sum(row.structures for row in diagnosis.labels.by_size)
        50
    """
    normalization = _adapt(structures)
    energies = np.where(structures.isolated_atoms, np.nan, structures.energy)
    used = dataclasses.replace(structures, energy=energies)
    wide = _knowing_all(normalization, structures)
    labels = _spread(used, wide)
    # The error of a model that says 0 is minus the label.
    energy = -_standardized(labels, "energy")
    forces = -_standardized(labels, "forces")
    errors = None
    if model is not None:
        errors = _model_errors(
            evaluate(
                model,
                used,
                normalization=wide,
                batch_size=batch_size,
                trained_on=trained_on,
            )
        )
    report = normalization.report.as_dict()
    found = Diagnosis(
        structures=structures,
        normalization=normalization,
        report=report,
        labels=labels,
        energy=energy,
        forces=forces,
        shares=loss_shares(structures, normalization),
        peers=peer_weights(structures, normalization),
        balances=balances(labels),
        pressure=_pressures(labels),
        shape=shape(structures, energy, forces),
        outliers=_outliers(structures, energy, forces, report["fit"]),
        errors=errors,
    )
    to_do, to_know = advise(found)
    return dataclasses.replace(found, to_do=tuple(to_do), to_know=tuple(to_know))


def _adapt(structures: Structures) -> PESNormalization:
    present = tuple(
        name
        for name in ("energy", "forces", "virial")
        if not np.isnan(getattr(structures, name)).all()
    )
    normalization = PESNormalization(size_law="auto")
    normalization.adapt(structures.batches(64, labels=present), verbose=0)
    return normalization


def _knowing_all(
    normalization: PESNormalization, structures: Structures
) -> PESNormalization:
    """Return the same statistics for elements, too, that have no energy here.

    They occur in isolated atoms alone, or in structures without energy: the energies
    that would be made up for them are compared with nothing.
    """
    wide = PESNormalization.from_config(normalization.get_config())
    seen = wide.seen.numpy()
    seen[structures.elements] = 1.0
    wide.assign_statistics({"seen": seen})
    return wide


def _pressures(labels: Evaluation) -> tuple[float, float] | None:
    """Return the share of the pressure in ΣW² and in ΣW'², if there are virials."""
    comparison = labels.comparison
    virial, _ = comparison.virial
    known = np.isfinite(virial).all(axis=(1, 2))
    if not virial[known].any() or comparison.normalization is None:
        return None
    standardized = comparison.normalization.standardize_virial(
        virial[known], comparison.composition[known]
    ).numpy()
    # p 1 has the square 3 p² = (tr W)² / 3.
    raw, own = (
        float(np.sum(np.trace(w, axis1=1, axis2=2) ** 2) / 3 / np.sum(w**2))
        for w in (virial[known], standardized)
    )
    return raw, own


def _spread(structures: Structures, normalization: PESNormalization) -> Evaluation:
    """Evaluate the model that knows only the composition."""
    baseline = normalization.energy_baseline(compositions(structures))
    comparison = Comparison.of_structures(
        structures,
        {
            "energy": baseline.numpy(),
            "forces": np.zeros(structures.forces.shape),
            "virial": np.zeros(structures.virial.shape),
        },
    )
    return Evaluation.of(comparison.with_scales(normalization))


def _standardized(evaluation: Evaluation, key: str) -> NDArray[np.float64]:
    """Return errors in units of the spread of the labels, NaN where there is none."""
    error, present = evaluation.comparison.standardized_errors(key)
    return np.where(present, error, np.nan)


def _model_errors(evaluation: Evaluation) -> ModelErrors:
    comparison = evaluation.comparison
    energy = _standardized(evaluation, "energy")
    forces = _standardized(evaluation, "forces")
    owner, number = comparison.structure_index, len(energy)
    labels = np.bincount(owner, np.isfinite(forces).sum(axis=1), number)
    squares = np.bincount(owner, np.nansum(forces**2, axis=1), number)
    mean = np.divide(squares, labels, np.full(number, np.nan), where=labels > 0)
    force_rms = np.sqrt(mean)
    return ModelErrors(
        evaluation=evaluation,
        energy=energy,
        forces=forces,
        slope=size_slope(energy, comparison.num_atoms),
        worst_energies=_largest(np.abs(energy)),
        worst_forces=_largest(force_rms),
        force_rms=force_rms,
    )


def _largest(values: NDArray) -> NDArray[np.int64]:
    ranked = np.argsort(-np.where(np.isfinite(values), values, -1.0), kind="stable")
    return ranked[: min(_WORST, np.count_nonzero(np.isfinite(values)))]


def _outliers(
    structures: Structures, energy: NDArray, forces: NDArray, fit: dict[str, Any]
) -> list[outliers.Outlier]:
    found: list[outliers.Outlier] = []
    if not fit["degenerate"]:
        found += outliers.unlikely_energies(energy)
    found += outliers.unlikely_forces(structures, forces)
    found += geometry.close_contacts(structures)
    found += geometry.duplicates(structures)
    found += outliers.net_forces(structures)
    found += geometry.isolated_atoms(structures)
    found += outliers.missing_labels(structures)
    kinds = list(outliers.KINDS)
    return sorted(found, key=lambda outlier: kinds.index(outlier.kind))
