"""Counting numbers of each element by how large they are, at a glance."""

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS

# Float32 numbers, by their exponent and the first two digits after it: four bins in an
# octave, from 2^-40 (and all below) to 2^14 eV/Å (and all above).
_FIRST, BINS = (127 - 40) * 4, 54 * 4
_MAGNITUDES = (np.arange(_FIRST, _FIRST + BINS, dtype=np.uint32) << 21).view("f4")
LARGE_BIN = 34 * 4
"""All components from `LARGE` on share this bin: most do, and none is rounding."""
LARGE = float(_MAGNITUDES[LARGE_BIN])
"""2^-6 eV/Å."""


def bin_of(least: float) -> int:
    """Return the first bin that counts: 0 begins at 0, and none above is rounding."""
    return int(np.searchsorted(_MAGNITUDES[1:], min(least, LARGE), "right"))


def by_magnitude(
    number: NDArray[np.intp], values: NDArray, weight: NDArray | None
) -> NDArray:
    """Return how many values each element has in each bin, (119, bins).

    Args:
        number: elements of the values, shape (n,), as all.
        values: not NaN.
        weight: None for 1.
    """
    digits = np.abs(values).astype(np.float32).view(np.int32) >> 21
    return at(_places(number, digits, _FIRST), weight)


def places_of_squares(
    number: NDArray[np.intp], squares: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return element and bin, as one number, of values whose squares are given."""
    with np.errstate(over="ignore"):  # the last bin takes infinity
        digits = squares.astype(np.float32).view(np.int32)
    # A digit less: as many bins in an octave of the values, their edges 1.22, 1.41 and
    # 1.73 for 1.25, 1.5 and 1.75.
    return _places(number, digits >> 22, 2 * (127 - 2 * 40))


def at(place: NDArray[np.intp], values: NDArray | None = None) -> NDArray:
    """Return how often each place occurs, or the sum of values there, (119, bins)."""
    total = np.bincount(place, values, NUMBER_OF_COLUMNS * BINS)
    return total.reshape(NUMBER_OF_COLUMNS, BINS)


def _places(
    number: NDArray[np.intp], digits: NDArray[np.int32], first: int
) -> NDArray[np.intp]:
    """Return element and bin as one number; the digits are changed."""
    digits -= first
    np.clip(digits, 0, BINS - 1, out=digits)
    place = number * BINS
    place += digits
    return place
