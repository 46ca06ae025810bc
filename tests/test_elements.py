import numpy as np
import pytest
from ase.data import chemical_symbols

from tfpes.elements import (
    NUMBER_OF_COLUMNS,
    SYMBOLS,
    by_atomic_number,
    by_symbol,
    join_symbols,
)


def test_symbols_are_those_of_ase():
    assert NUMBER_OF_COLUMNS == 119
    assert list(SYMBOLS) == chemical_symbols[:119]


def test_symbols_and_numbers_are_keys_alike():
    array = by_atomic_number({"H": 1.5, 8: 2.5, np.int64(29): 3.5}, "x")
    assert array[[1, 8, 29]].tolist() == [1.5, 2.5, 3.5]
    assert np.isnan(np.delete(array, [1, 8, 29])).all()


def test_array_is_copied_and_padding_has_no_value():
    given = np.arange(119.0)
    array = by_atomic_number(given, "x")
    assert np.isnan(array[0])
    np.testing.assert_array_equal(array[1:], given[1:])
    array[3] = -1
    assert given[0] == 0
    assert given[3] == 3


@pytest.mark.parametrize("key", ["Xx", "X", 0, 119, -1, 1.5, None])
def test_unknown_element(key):
    with pytest.raises(
        ValueError, match=r"Keys of `x` must be symbols or .*Received: "
    ):
        by_atomic_number({key: 1.0}, "x")


def test_wrong_shape():
    with pytest.raises(ValueError, match=r"shape \(119,\).*Received: shape \(3,\)"):
        by_atomic_number(np.zeros(3), "x")


def test_by_symbol_is_the_inverse():
    given = {"H": 1.0, "U": -2.0}
    assert by_symbol(by_atomic_number(given, "x")) == given


def test_join_symbols_sorts_and_drops_repetitions():
    assert join_symbols([8, 1, 8, np.int32(6)]) == "H, C, O"
