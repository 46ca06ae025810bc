"""What was found about a data set, and about a model on it, as plain data."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.diagnostics.loss_shares import Balance
from tfpes.diagnostics.outliers import Outlier
from tfpes.diagnostics.peers import PeerWeights
from tfpes.diagnostics.shape import Shape, Slope
from tfpes.evaluation import Evaluation
from tfpes.layers import PESNormalization


@dataclasses.dataclass(frozen=True, eq=False)
class ModelErrors:
    """Errors of a model on the diagnosed structures.

    Energies of isolated atoms are left out, as from the statistics: a cohesive energy
    away from the others, a few of them would rule the errors of all.

    Attributes:
        evaluation: errors overall and by size, element and ``config_type``; the scales
            are those of the diagnosed data, not of the data the model was trained on.
        energy: (S,) standardized errors ``(E_pred - E) / s``, NaN without label.
        forces: (A, 3) ``(F_pred - F) / η``.
        slope: of the squared energy errors against size, or None if all structures have
            one size or there are too few.
        worst_energies: indices of the largest ``|ΔE'|``, largest first.
        worst_forces: structures with the largest RMS of ``ΔF'``, largest first.
        force_rms: that RMS, (S,).
    """

    evaluation: Evaluation
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    slope: Slope | None
    worst_energies: NDArray[np.int64]
    worst_forces: NDArray[np.int64]
    force_rms: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Findings about a data set.

    Attributes:
        structures: that were diagnosed.
        normalization: adapted on them with ``size_law="auto"``.
        report: of that normalization, as a dict.
        labels: errors of the model that knows only the composition, ``E = Σ n μ`` and
            ``F = 0``: the spread of the labels, by size, element and ``config_type``.
            Energies of isolated atoms are left out.
        energy: (S,) E', NaN without a label and for isolated atoms left out.
        forces: (A, 3) F', NaN without a label.
        shares: what each loss weighs, :func:`tfpes.diagnostics.loss_shares`.
        peers: weights of the losses of other packages that come nearest to ours.
        balances: what an energy : forces ratio of 1 : 1 means for each loss.
        pressure: its share in the squared virials, and in the standardized ones, or
            None.
        shape: how far E' and F' are from normal.
        outliers: structures to look at, by kind and then by size of the deviation.
        errors: of a model, or None.
        to_do: what to do, in sentences that each rest on a number found.
        to_know: what to know, likewise.
    """

    structures: Structures
    normalization: PESNormalization
    report: dict[str, Any]
    labels: Evaluation
    energy: NDArray[np.float64]
    forces: NDArray[np.float64]
    shares: dict[str, Any]
    peers: list[PeerWeights]
    balances: list[Balance]
    pressure: tuple[float, float] | None
    shape: Shape
    outliers: list[Outlier]
    errors: ModelErrors | None = None
    to_do: tuple[str, ...] = ()
    to_know: tuple[str, ...] = ()

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, then what to know."""
        return self.to_do + self.to_know

    def __repr__(self) -> str:
        """Summarize."""
        listed = len({outlier.structure for outlier in self.outliers})
        return f"<Diagnosis: {listed} of {len(self.structures)} structures listed>"
