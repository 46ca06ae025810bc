"""E', F' and W' in NumPy are those of the layer, and need no TensorFlow."""

import numpy as np
import pytest

from tfpes.statistics import Statistics

LABELS = {"energy": (), "virial": (3, 3)}


@pytest.fixture(scope="module")
def layer(structures):
    import tfpes

    layer = tfpes.layers.PESNormalization(size_law="collective")
    layer.adapt(structures.batches(8, labels=("energy", "forces", "virial")))
    return layer


@pytest.fixture(scope="module")
def statistics(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "statistics.json"
    layer.to_json(path)
    return Statistics.from_json(path)


def test_they_hold_what_the_layer_holds(layer, statistics):
    assert dict(statistics).keys() == layer.statistics.keys()
    for name, value in layer.statistics.items():
        np.testing.assert_array_equal(statistics[name], value)


def test_labels_are_those_of_the_layer(layer, statistics):
    rng, seen = np.random.default_rng(0), np.flatnonzero(layer.statistics["seen"])
    counts = np.zeros((9, 119))
    counts[:8, seen] = rng.integers(0, 40, (8, len(seen)))  # the last has no atoms
    for name in ("energy_baseline", "energy_scale", "virial_scale_of"):
        found, expected = (getattr(one, name)(counts) for one in (statistics, layer))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    numbers = rng.choice([0, *seen], (4, 5))
    rows = {key: (rng.normal(size=(9, *s)), counts) for key, s in LABELS.items()}
    for key, (values, what) in {
        **rows,
        "forces": (rng.normal(size=(4, 5, 3)), numbers),
    }.items():
        found = getattr(statistics, f"standardize_{key}")(values, what)
        expected = getattr(layer, f"standardize_{key}")(values, what)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        back = getattr(statistics, f"destandardize_{key}")(found, what)
        scale = np.abs(values).max()
        np.testing.assert_allclose(back, values, rtol=0, atol=1e-10 * scale)


def test_a_label_never_seen(structures):
    import tfpes

    layer = tfpes.layers.PESNormalization()
    layer.adapt(structures.batches(8, labels=("energy",)))
    water = np.eye(119)[[8]] + 2 * np.eye(119)[[1]]
    assert np.isfinite(layer.statistics.standardize_energy([6.0], water)).all()
    for call in (
        lambda: layer.statistics.standardize_forces(np.ones((1, 3)), [8]),
        lambda: layer.statistics.destandardize_virial(np.ones((1, 3, 3)), water),
    ):
        with pytest.raises(ValueError, match="a label whose scale is 0"):
            call()


def test_an_element_never_seen(statistics):
    for call in (
        lambda: statistics.standardize_energy([1.0], np.eye(119)[[118]]),
        lambda: statistics.standardize_forces(np.ones((1, 3)), [118]),
    ):
        with pytest.raises(ValueError, match=r"`Statistics` knows .*0 holds Og\."):
            call()
    half = statistics.standardize_forces(np.ones((1, 3), np.float32), [0])
    assert half.dtype == np.float32


def test_importing_them_loads_no_tensorflow(run_python):
    script = """
import sys, tfpes.statistics
print("tensorflow" in sys.modules, hasattr(tfpes, "nothing"))
from tfpes import layers, evaluate  # the rest comes when it is asked for
print("tensorflow" in sys.modules, tfpes.statistics.Statistics.__name__)
"""
    assert run_python(script).splitlines() == ["False False", "True Statistics"]
