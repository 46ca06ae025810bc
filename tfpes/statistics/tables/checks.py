"""Checks of what callers pass in: every message says rule, received, way out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS


def check_structures(
    composition: ArrayLike, values: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return composition (S, 119) and values (S,) in float64, or raise."""
    dense = np.asarray(composition, np.float64)
    value = np.asarray(values, np.float64)
    if dense.ndim != 2 or dense.shape[1] != NUMBER_OF_COLUMNS:
        raise ValueError(
            "`composition` must have shape (structures, 119): atoms of each element, "
            f"indexed by atomic number. Received: shape {dense.shape}. Count them with "
            "`tfpes.targets.composition`."
        )
    if value.shape != dense.shape[:1]:
        raise ValueError(
            "`values` must have one number for each row of `composition`. Received: "
            f"shape {value.shape} for {dense.shape[0]} structures. Flatten it to one "
            "dimension."
        )
    infinite = np.isinf(value)
    if infinite.any():
        where = int(np.flatnonzero(infinite)[0])
        raise ValueError(
            "`values` must be finite, or NaN where there is no label. Received: "
            f"{value[where]} for structure {where}. Remove it, or set it to NaN."
        )
    return dense, value


def check_counts(
    element: NDArray[np.int64], count: NDArray[np.float64], owner: NDArray[np.int64]
) -> None:
    """Raise unless all non-zero counts are whole, positive and of real elements."""
    bad = ~((count >= 1) & (count < 2**32) & (count == np.floor(count)))
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        raise ValueError(
            "`composition` must hold whole numbers from 0 to 2**32 - 1. Received: "
            f"{count[where]} for atomic number {element[where]} of structure "
            f"{owner[where]}. Count atoms with `tfpes.targets.composition`."
        )
    if element.size and not element.all():
        where = int(np.flatnonzero(element == 0)[0])
        raise ValueError(
            "Column 0 of `composition` stands for padding and must be 0. Received: "
            f"{count[where]} for structure {owner[where]}. Set it to 0: padding atoms "
            "are not counted."
        )


def check_weights(weights: ArrayLike | None, number: int) -> NDArray[np.float64]:
    """Return weights (S,) in float64, ones if not given, or raise."""
    if weights is None:
        return np.ones(number)
    weight = np.asarray(weights, np.float64)
    if weight.shape != (number,):
        raise ValueError(
            f"`weights` must have shape ({number},). Received: shape {weight.shape}. "
            "Pass one weight for each label."
        )
    bad = ~((weight >= 0) & np.isfinite(weight))
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        raise ValueError(
            "`weights` must be finite and not negative. Received: "
            f"{weight[where]} at index {where}. Use 0 to leave a label out."
        )
    return weight


def check_isolated(isolated: ArrayLike | None, number: int) -> NDArray[np.bool_] | None:
    """Return the flags of isolated atoms (S,), None if not given, or raise."""
    if isolated is None:
        return None
    flag = np.asarray(isolated)
    if flag.dtype != np.bool_ or flag.shape != (number,):
        raise ValueError(
            f"`isolated` must be boolean and have shape ({number},). Received: "
            f"{flag.dtype} of shape {flag.shape}. Pass None to treat every structure "
            "of one atom as isolated."
        )
    return flag


def check_per_element(
    name: str, values: ArrayLike | None, *, positive: bool = False
) -> NDArray[np.float64]:
    """Return values by atomic number (119,), NaN where not given, or raise."""
    if values is None:
        return np.full(NUMBER_OF_COLUMNS, np.nan)
    array = np.array(values, np.float64)
    if array.shape != (NUMBER_OF_COLUMNS,):
        raise ValueError(
            f"`{name}` must have shape (119,), indexed by atomic number, NaN where "
            f"not given. Received: shape {array.shape}."
        )
    array[0] = np.nan
    if np.isinf(array).any() or (positive and np.any(array <= 0)):
        rule = "finite and positive" if positive else "finite"
        bad = np.isinf(array) | (array <= 0 if positive else False)
        where = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"`{name}` must be {rule}, or NaN where not given. Received: "
            f"{array[where]} for atomic number {where}."
        )
    return array
