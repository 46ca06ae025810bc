"""Checks of what callers pass in: every message says rule, received, way out."""

from collections.abc import Iterable, Mapping

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from tfpes.elements import NUMBER_OF_COLUMNS

FORMAT_VERSION = 4
"""Of the states of the tables."""


def first(bad: NDArray[np.bool_]) -> int | None:
    """Return the index of the first that is True, or None."""
    return int(np.argmax(bad)) if bad.any() else None


def check_composition(composition: ArrayLike) -> scipy.sparse.csr_array:
    """Return atoms of each element, (S, 119) in uint32, or raise."""
    dense = np.asarray(composition, np.float64)
    if dense.ndim != 2 or dense.shape[1] != NUMBER_OF_COLUMNS:
        raise ValueError(
            "`composition` must have shape (structures, 119): atoms of each element, "
            f"indexed by atomic number. Received: shape {dense.shape}. Count them with "
            "`tfpes.targets.composition`."
        )
    entry = np.flatnonzero(dense != 0)  # three times as fast as of the numbers
    owner, element = entry // NUMBER_OF_COLUMNS, entry % NUMBER_OF_COLUMNS
    number = dense[owner, element]
    whole = (number >= 1) & (number < 2**32) & (number == np.floor(number))
    if (where := first(~whole)) is not None:
        raise ValueError(
            "`composition` must hold whole numbers from 0 to 2**32 - 1. Received: "
            f"{number[where]} for atomic number {element[where]} of structure "
            f"{owner[where]}. Count atoms with `tfpes.targets.composition`."
        )
    if (where := first(element == 0)) is not None:
        raise ValueError(
            "Column 0 of `composition` stands for padding and must be 0. Received: "
            f"{number[where]} for structure {owner[where]}. Set it to 0: padding atoms "
            "are not counted."
        )
    start = np.zeros(len(dense) + 1, np.int32)
    np.cumsum(np.bincount(owner, minlength=len(dense)), out=start[1:])
    return scipy.sparse.csr_array(
        (number.astype(np.uint32), element.astype(np.int32), start), shape=dense.shape
    )


def check_values(values: ArrayLike, number: int) -> NDArray[np.float64]:
    """Return a copy of values (S,) in float64, or raise."""
    value = np.array(values, np.float64)
    if value.shape != (number,):
        raise ValueError(
            "`values` must have one number for each row of `composition`. Received: "
            f"shape {value.shape} for {number} structures. Flatten it to one "
            "dimension."
        )
    if (where := first(np.isinf(value))) is not None:
        raise ValueError(
            "`values` must be finite, or NaN where there is no label. Received: "
            f"{value[where]} for structure {where}. Remove it, or set it to NaN."
        )
    return value


def check_weights(weights: ArrayLike | None, number: int) -> NDArray[np.float64]:
    """Return a copy of weights (S,) in float64, ones if not given, or raise."""
    if weights is None:
        return np.ones(number)
    weight = np.array(weights, np.float64)
    if weight.shape != (number,):
        raise ValueError(
            f"`weights` must have shape ({number},). Received: shape {weight.shape}. "
            "Pass one weight for each label."
        )
    if (where := first(~((weight >= 0) & np.isfinite(weight)))) is not None:
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


def check_state(state: Mapping[str, NDArray], owner: str, names: Iterable[str]) -> None:
    """Check version and names of a state before any of it is used.

    Raises:
        ValueError: if the state is of another version, or incomplete.
    """
    version = int(state["version"]) if "version" in state else 0
    if version != FORMAT_VERSION:
        raise ValueError(
            f"The state of a `{owner}` has version {FORMAT_VERSION}. Received: a state "
            f"of version {version}. Build the table again from the data, or use the "
            "release of `tfpes` that wrote it."
        )
    check_names(state, owner, names)


def check_names(state: Mapping[str, NDArray], owner: str, names: Iterable[str]) -> None:
    """Raise unless a state has all these arrays."""
    missing = sorted(set(names) - set(state))
    if missing:
        raise damaged(owner, f"without {', '.join(missing)}")


def damaged(owner: str, reason: str) -> ValueError:
    """Return the error for a state whose arrays do not fit together."""
    return ValueError(
        f"The state of a `{owner}` must hold the arrays that its `state()` returned. "
        f"Received: a state {reason}. The file is damaged: build the table again."
    )
