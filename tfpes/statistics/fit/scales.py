"""Scales of forces and virials."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.likelihood import Data, Problem
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import ScaleFit
from tfpes.statistics.fit.variance import FLOOR, solve_variance
from tfpes.statistics.tables.atoms import AtomicTable
from tfpes.statistics.tables.compositions import CompositionTable

_ZERO = 1e-6
"""Forces below this part of the pooled scale are zero by symmetry."""

# xx, yy, zz, yz, xz, xy.
_COMPONENTS = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


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
    least = _ZERO * np.sqrt(total / labels.sum())
    components = table.number("components", least)
    structures = np.maximum(table.number("structures", least), FLOOR)
    pooled = total / components.sum()
    # Elements of which nothing but zeros is known have the pooled scale.
    known = components > 0
    imaginary = options.prior_strength * components / structures
    square = np.full(NUMBER_OF_COLUMNS, pooled)
    np.divide(
        table.squares + imaginary * pooled, components + imaginary, square, where=known
    )
    return ScaleFit(np.sqrt(square), seen, float(np.sqrt(pooled)), degenerate=False)


def virial_mean_square(virial: ArrayLike) -> NDArray[np.float64]:
    """Return the mean square of the six independent components, eV².

    Args:
        virial: symmetric, NaN where there is no label, shape (S, 3, 3).

    Returns:
        Shape (S,), NaN where any component is.

    Raises:
        ValueError: for a wrong shape.
    """
    tensor = np.asarray(virial, np.float64)
    if tensor.ndim != 3 or tensor.shape[1:] != (3, 3):
        raise ValueError(
            "`virial` must have shape (structures, 3, 3). Received: shape "
            f"{tensor.shape}."
        )
    return np.mean(tensor[:, _COMPONENTS[0], _COMPONENTS[1]] ** 2, axis=1)


def fit_virial(table: CompositionTable, options: FitOptions = FitOptions()) -> ScaleFit:
    r"""Estimate the scale of virial components of each element.

    Each component has mean 0 and variance $n\cdot\tau^2$. With $q$ the mean square
    of the six components of a structure, the same solver as for energies minimises
    $\sum(\ln n\cdot\tau^2 + q/n\cdot\tau^2)$ with the same prior. One $\tau$ for all
    components, because a rotation mixes them.

    Args:
        table: `virial_mean_square` by composition, eV².
        options: whose `prior_strength` is ``nu0``, imaginary one-atom structures of
            each element. Isolated atoms never count: their virial is 0 by symmetry.

    Returns:
        ``tau`` (eV), pooled for elements without virials; 1 and marked degenerate if
        there are no virials, or all are zero.

    Raises:
        ValueError: if a mean square is negative.
    """
    rows = table.rows()
    if np.any(rows.lowest < 0):
        raise ValueError(
            "`fit_virial` takes a table of mean squares. Received: the value "
            f"{rows.lowest.min()}. Update the table with `virial_mean_square`."
        )
    elements = rows.elements()
    seen = np.isin(np.arange(NUMBER_OF_COLUMNS), elements)
    weight, squared = rows.weight, rows.weight * rows.mean
    pooled = float(np.sum(squared / rows.size) / weight.sum()) if len(rows) else 0.0
    if not pooled > 0:
        return ScaleFit(np.ones(NUMBER_OF_COLUMNS), seen, 1.0, degenerate=True)
    number, zero = elements.size, np.zeros(len(rows))
    design = Design(rows.composition[:, elements])
    # The mean is known to be 0.
    data = Data(design, np.zeros((number, 0)), weight, zero, squared / pooled, pooled)
    problem = Problem(
        data, np.eye(number), np.zeros(number), strength=options.prior_strength
    )
    solution = solve_variance(problem, np.ones(number), FLOOR)
    variance = np.full(NUMBER_OF_COLUMNS, pooled)
    variance[elements] = solution.point.unknowns * pooled
    return ScaleFit(np.sqrt(variance), seen, float(np.sqrt(pooled)), degenerate=False)
