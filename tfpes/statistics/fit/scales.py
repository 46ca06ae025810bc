"""Scales of forces and virials."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.fit.energy import fit_energy, fit_spread
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit, ScaleFit
from tfpes.statistics.fit.robust import CUT, consistency, median
from tfpes.statistics.fit.variance import FLOOR
from tfpes.statistics.tables.atoms import AtomicTable
from tfpes.statistics.tables.compositions import CompositionTable

_ZERO = 1e-6
"""Forces below this part of the pooled scale are zero by symmetry."""
_FEW = 0.01
"""The part of the atoms that a single mistake can spoil."""


def fit_forces(table: AtomicTable, options: FitOptions = FitOptions()) -> ScaleFit:
    r"""Estimate the scale of the force components of each element.

    $$\eta_z^2 = \frac{\sum F^2 + \nu_z\bar\eta^2}{C_z + \nu_z},\qquad
    \nu_z = \nu_0\, C_z / S_z$$

    with $C_z$ components in $S_z$ structures and $\bar\eta$ the root mean square over
    all components. The prior counts structures, because the forces of one frame are one
    observation far more than they are hundreds: in real sets a single frame can hold
    nearly all of the squared forces of an element. Components below $10^{-6}\bar\eta$
    are zero by symmetry or relaxation and say nothing of the others: they are left out
    of the counts.

    A robust fit pulls atoms in whose forces (root mean square of the components) exceed
    2.5 standard deviations, as the median of their element tells them.

    Args:
        table: forces by element.
        options: whose `prior_strength` is ``nu0``, imaginary structures that hold the
            element.

    Returns:
        ``eta`` (eV/Å), ``eta_bar`` for elements without forces; 1 and marked
        degenerate if there are no forces, or all are zero.
    """
    labels, total = table.number("components"), table.squares.sum()
    seen = labels > 0
    if not total > 0:
        return ScaleFit(np.ones(NUMBER_OF_COLUMNS), seen, 1.0, degenerate=True)
    # Absurd forces must not make all others look like zeros.
    bulk = table.trimmed(10 * _FEW) if options.robust else total
    least = _ZERO * np.sqrt((bulk or total) / labels.sum())
    components = table.number("components", least)
    structures = np.maximum(table.number("structures", least), FLOOR)
    imaginary = options.prior_strength * components / structures

    def scales(squares: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        pooled = squares.sum() / components.sum()
        # Elements of which nothing but zeros is known have the pooled scale.
        square = np.full(NUMBER_OF_COLUMNS, pooled)
        prior = imaginary * pooled
        np.divide(squares + prior, components + imaginary, square, where=components > 0)
        return np.sqrt(square), float(np.sqrt(pooled))

    squares, shrunk = table.squares, 1.0
    if options.robust:
        squares = table.winsorised(CUT / median(3) * table.median(least))
        shrunk = consistency(3)
    scale, pooled = scales(squares / shrunk)
    share = float(1 - table.trimmed(_FEW, least) / total)
    return ScaleFit(scale, seen, pooled, degenerate=False, largest_share=share)


def split_virial(virial: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Split virials, $W = p\,1 + D$ with $\mathrm{tr}\,D = 0$.

    Args:
        virial: symmetric, NaN where there is no label, shape (S, 3, 3).

    Returns:
        The pressure $p = \mathrm{tr}\,W/3$, eV, and the mean square of the five
        orthonormal components of the deviator, $\lVert D\rVert^2/5$, eV²; shape (S,),
        NaN where any component is.

    Raises:
        ValueError: for a wrong shape.
    """
    tensor = np.asarray(virial, np.float64)
    if tensor.ndim != 3 or tensor.shape[1:] != (3, 3):
        raise ValueError(
            "`virial` must have shape (structures, 3, 3). Received: shape "
            f"{tensor.shape}."
        )
    pressure = np.trace(tensor, axis1=1, axis2=2) / 3
    pressure = np.where(np.isnan(tensor).any(axis=(1, 2)), np.nan, pressure)
    with np.errstate(invalid="ignore"):  # infinite ones are found by the tables
        deviator = tensor - pressure[:, None, None] * np.eye(3)
    return pressure, np.sum(deviator**2, axis=(1, 2)) / 5


@dataclasses.dataclass(frozen=True, eq=False)
class VirialFit:
    """Scales of virials: result of `fit_virial`.

    Args:
        pressure: of ``p``: mean, variance and collective variance.
        deviator: of a component of ``D``, whose mean is 0.
    """

    pressure: EnergyFit
    deviator: EnergyFit

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Elements with labels, shape (119,)."""
        return self.pressure.seen

    def weights(self) -> dict[str, NDArray[np.float64]]:
        """Return what the layer keeps, by name."""
        return {
            "pressure_mean": self.pressure.mean,
            "pressure_scale": np.sqrt(self.pressure.variance),
            "collective_pressure_variance": np.array(self.pressure.collective_variance),
            "virial_scale": np.sqrt(self.deviator.variance),
            "collective_virial_variance": np.array(self.deviator.collective_variance),
        }


def fit_virial(
    pressures: CompositionTable,
    deviators: CompositionTable,
    options: FitOptions = FitOptions(),
) -> VirialFit:
    r"""Estimate the scales of virials, $W = p\,1 + D$.

    $$p \sim \mathrm{Normal}(n\cdot\pi,\; n\cdot\tau_p^2 + N^2\kappa_p^2),\qquad
    D_k \sim \mathrm{Normal}(0,\; n\cdot\tau_d^2 + N^2\kappa_d^2)$$

    for the five orthonormal components of $D$, which a rotation mixes. Strained cells
    have far larger pressures than shears, so that one scale for both would make a
    virial loss a pressure loss. Both are fitted as energies are, with the same options;
    $D$ on the mean square of its components, as one observation of each structure.
    Isolated atoms never count: their virial is 0 by symmetry.

    Args:
        pressures: `split_virial`, the first, by composition, eV.
        deviators: the second, eV².
        options: how to fit.

    Raises:
        ValueError: if there is no virial, or a mean square is negative.
    """
    options = dataclasses.replace(options, isolated_atoms="exclude")
    return VirialFit(fit_energy(pressures, options), fit_spread(deviators, options, 5))
