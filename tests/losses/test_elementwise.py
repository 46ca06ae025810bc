import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpes.losses.elementwise import resolve

NUMBER = st.floats(-1e3, 1e3)


@given(NUMBER, NUMBER, st.floats(1e-3, 1e2))
def test_values(true, pred, delta):
    error = pred - true
    size = abs(error)
    huber = error**2 / 2 if size <= delta else delta * (size - delta / 2)
    for name, expected in (("mse", error**2), ("mae", size), ("huber", huber)):
        value = resolve(name, delta)(np.float64(true), np.float64(pred))
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-300)


def test_function_is_taken_as_it_is():
    def metric(true, pred):
        return true - pred

    assert resolve(metric, -1.0) is metric


@pytest.mark.parametrize("name", ["rmse", "", None, 3])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=f"`metric` must be one of.*{name!r}"):
        resolve(name, 1.0)


@pytest.mark.parametrize("delta", [0.0, -1.0, np.nan])
def test_delta(delta):
    with pytest.raises(ValueError, match="`delta` must be positive"):
        resolve("huber", delta)
