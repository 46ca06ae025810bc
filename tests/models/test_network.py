"""Options and configuration of both networks."""

import keras
import numpy as np
import pytest

from tfpes.layers import PESNormalization
from tfpes.models import PaiNN, Potential, SchNet

SMALL = {
    "cutoff": 3.5,
    "channels": 4,
    "blocks": 2,
    "basis_size": 5,
    "cutoff_function": "polynomial",
    "dtype": "float64",
}


@pytest.mark.parametrize(
    ("network", "options"), [(SchNet, {**SMALL, "interpolate": False}), (PaiNN, SMALL)]
)
def test_config(network, options, frames, graph):
    original = network(**options)
    inputs = graph(frames[:2], 3.5)
    copy = network.from_config(original.get_config())
    for name, value in options.items():
        assert getattr(copy, name) == value
    assert not np.array_equal(copy(inputs), original(inputs))
    copy.set_weights(original.get_weights())
    np.testing.assert_array_equal(copy(inputs), original(inputs))


@pytest.mark.parametrize("network", [SchNet, PaiNN])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0.0}, r"`cutoff` must be positive \(Å\)\. Received: 0\.0"),
        ({"cutoff": -1.0}, r"`cutoff` must be positive"),
        ({"cutoff": np.nan}, r"`cutoff` must be positive"),
        ({"channels": 0}, "`channels` and `blocks` must be at least 1"),
        ({"blocks": 0}, "`channels` and `blocks` must be at least 1"),
        ({"basis_size": 0}, "`basis_size` at least [12]. Received: .*, 0."),
        ({"cutoff_function": "step"}, "`cutoff_function` must be one of.*'step'"),
    ],
    ids=str,
)
def test_options_that_make_no_sense(network, options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_one_gaussian_has_no_width():
    with pytest.raises(ValueError, match="`basis_size` at least 2"):
        SchNet(basis_size=1)
    PaiNN(basis_size=1, channels=1)


@pytest.mark.parametrize("network", [SchNet, PaiNN])
def test_files_hold_every_variable(network, frames, graph, tmp_path):
    """Keras before 3.15 leaves layers in nested lists out, without a word."""
    generator = np.random.default_rng(0)
    norm = PESNormalization(energy_mean={"H": -1.0}, energy_variance={"H": 1.0})
    model = Potential(network(**SMALL), norm)
    for variable in model.variables:
        variable.assign(generator.uniform(1, 2, variable.shape))
    model(graph(frames[:2], 3.5))  # Keras before 3.15 warns of models never called
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.variables) == len(model.variables)
    for copy, variable in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(copy.numpy(), variable.numpy(), variable.path)
