"""What there is to know about a data set before, or after, a training on it."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.diagnostics import geometry, outliers, tables
from tfpes.diagnostics.advice import advise
from tfpes.diagnostics.balance import Balance, balance
from tfpes.diagnostics.loss_shares import loss_shares
from tfpes.diagnostics.model_errors import ModelErrors, model_errors
from tfpes.diagnostics.shape import Shape, shape
from tfpes.evaluation import compositions
from tfpes.layers import PESNormalization


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Findings about a data set, as plain data.

    Attributes:
        structures: that were diagnosed.
        normalization: adapted on them with ``size_law="auto"``.
        report: of that normalization, as a dict.
        energy: (S,) E', NaN without a label and for isolated atoms left out.
        forces: (A, 3) F', NaN without a label.
        by_size: rows of ``tfpes.diagnostics.tables.row`` for each size bin.
        by_element: likewise, with ``mean`` μ, ``deviation`` σ and ``force_scale`` η.
        by_config_type: likewise, most frequent first.
        shares: what each loss weighs, :func:`tfpes.diagnostics.loss_shares`.
        balances: what an energy : forces ratio of 1 : 1 means for each loss.
        shape: how far E' and F' are from normal.
        outliers: structures to look at, by kind and then by size of the deviation.
        errors: of a model, or None.
    """

    structures: Structures
    normalization: PESNormalization
    report: dict[str, Any]
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    by_size: list[dict[str, Any]]
    by_element: list[dict[str, Any]]
    by_config_type: list[dict[str, Any]]
    shares: dict[str, Any]
    balances: list[Balance]
    shape: Shape
    outliers: list[outliers.Outlier]
    errors: ModelErrors | None = None

    def __repr__(self) -> str:
        """Summarize."""
        listed = len({outlier.structure for outlier in self.outliers})
        return f"<Diagnosis: {listed} of {len(self.structures)} structures listed>"

    @property
    def advice(self) -> list[str]:
        """What to do, in sentences that each rest on a number found."""
        return advise(self)


def diagnose(
    structures: Structures, model: Any = None, *, batch_size: int = 16
) -> Diagnosis:
    """Examine the labels of a data set, and the errors of a model on them.

    Args:
        structures: with energies, and with forces and virials where there are any.
            With a model, neighbour lists must be those of its cutoff.
        model: as for :func:`tfpes.evaluate`, or None.
        batch_size: structures at a time, for the model.

    Returns:
        The findings.

    Raises:
        ValueError: for structures without energies, or with elements that the model
            does not know.

    Example:
        >>> import tfpes
        >>> structures = tfpes.data.load("alloys")[:50]
        >>> diagnosis = diagnose(structures)
        >>> sum(row["structures"] for row in diagnosis.by_size)
        50
    """
    normalization = _adapt(structures)
    energy, forces = _standardize(structures, normalization)
    errors = None
    if model is not None:
        errors = model_errors(model, structures, normalization, batch_size)
    report = normalization.report.as_dict()
    return Diagnosis(
        structures=structures,
        normalization=normalization,
        report=report,
        energy=energy,
        forces=forces,
        by_size=tables.by_size(structures, energy, forces),
        by_element=_with_statistics(
            tables.by_element(structures, energy, forces), report["elements"]
        ),
        by_config_type=tables.by_config_type(structures, energy, forces),
        shares=loss_shares(structures, normalization),
        balances=balance(structures, normalization, energy, forces),
        shape=shape(structures, energy, forces),
        outliers=_outliers(structures, energy, forces, report["fit"]),
        errors=errors,
    )


def _adapt(structures: Structures) -> PESNormalization:
    present = tuple(
        name
        for name in ("energy", "forces", "virial")
        if not np.isnan(getattr(structures, name)).all()
    )
    normalization = PESNormalization(size_law="auto")
    normalization.adapt(structures.batches(64, labels=present), verbose=0)
    return normalization


def _standardize(
    structures: Structures, normalization: PESNormalization
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    energy = np.where(structures.isolated_atoms, np.nan, structures.energy)
    counts = compositions(structures)
    standardized = (
        energy - normalization.energy_baseline(counts).numpy()
    ) / normalization.energy_scale(counts).numpy()
    scale = normalization.force_scale.numpy()[structures.atomic_numbers]
    # A scale of 0 says that there are no forces at all.
    scale = np.where(scale > 0, scale, np.nan)
    return standardized, structures.forces.astype(np.float64) / scale[:, None]


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
    return found + outliers.missing_labels(structures)


def _with_statistics(
    rows: list[dict[str, Any]], elements: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    names = {
        "mean": "energy_mean",
        "deviation": "energy_deviation",
        "force_scale": "force_scale",
    }
    return [
        row
        | {key: elements.get(row["name"], {}).get(name) for key, name in names.items()}
        for row in rows
    ]
