"""Statistics as a JSON file."""

import json
import os

import numpy as np
import pytest

from tfpes.files import write_json
from tfpes.layers import PESNormalization


def weights_of(layer):
    return {weight.name: weight.numpy() for weight in layer.weights}


def assert_same(left, right):
    expected = weights_of(right)
    for name, value in weights_of(left).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture
def norm(structures):
    layer = PESNormalization(size_law="auto")
    layer.adapt(structures.batches(4, labels=("energy", "forces", "virial")))
    return layer


@pytest.fixture
def path(norm, tmp_path):
    norm.to_json(tmp_path / "stats.json")
    return tmp_path / "stats.json"


def change(path, **entries):
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(content))


def test_round_trip_is_exact(norm, path):
    again = PESNormalization.from_json(path)
    assert_same(again, norm)
    assert again.options.size_law == "auto"
    assert str(again.report) == str(norm.report)
    assert again.report.warnings == norm.report.warnings


@pytest.mark.parametrize(
    "options",
    [
        {"energy_mean": {"H": -13.0}, "energy_variance": {"O": 1 / 3, "Cu": 0.1}},
        {"force_scale": {"C": 0.7}, "virial_scale": {"Fe": 2.0}},
        {"energy_variance": {"U": 0.1}, "collective_variance": 0.3},
        {"size_law": "collective", "per_element": False, "prior_strength": 2.5},
        {"robust": True, "isolated_atoms": "include"},
    ],
    ids=str,
)
@pytest.mark.parametrize("adapt", [True, False])
def test_options_and_given_statistics(structures, tmp_path, options, adapt):
    options = dict(options)
    options.setdefault("energy_variance", {"N": 1.0})
    layer = PESNormalization(**options)
    if adapt:
        layer.adapt(structures.batches(4))
    layer.to_json(tmp_path / "stats.json")
    again = PESNormalization.from_json(tmp_path / "stats.json")
    assert_same(again, layer)
    left, right = again.get_config(), layer.get_config()
    assert {k: v for k, v in left.items() if k != "name"} == {
        k: v for k, v in right.items() if k != "name"
    }
    assert again.has_report == adapt
    # Adapting again does what it would have done.
    for each in (again, layer):
        each.adapt(structures.batches(4))
    assert_same(again, layer)


def test_people_can_read_it(path):
    content = json.loads(path.read_text())
    assert content["format"] == "tfpes.statistics"
    assert content["elements"]["Cu"]["energy_mean"] == pytest.approx(-300, rel=0.1)
    assert "U" not in content["elements"]
    assert content["units"]["energy_mean"] == "eV"


def test_file_without_a_report(path):
    change(path, report=None)
    layer = PESNormalization.from_json(path)
    assert not layer.has_report
    with pytest.raises(RuntimeError, match="not adapted in this process"):
        _ = layer.report


def test_layer_without_statistics(tmp_path):
    with pytest.raises(RuntimeError, match=r"`to_json` writes statistics. Received"):
        PESNormalization().to_json(tmp_path / "stats.json")
    assert not any(tmp_path.iterdir())


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"exists. Received: .*none\.json"):
        PESNormalization.from_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"PK\x03\x04"])
def test_no_json(tmp_path, content):
    (tmp_path / "stats.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"is JSON. Received: .*cannot be read.*Write"):
        PESNormalization.from_json(tmp_path / "stats.json")


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "geojson"}', "3"])
def test_json_of_another_kind(tmp_path, content):
    (tmp_path / "stats.json").write_text(content)
    with pytest.raises(ValueError, match=r'says `"format": "tfpes.statistics"`. Rec'):
        PESNormalization.from_json(tmp_path / "stats.json")


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version(path, version):
    change(path, version=version)
    with pytest.raises(ValueError, match=r"version 1 or older. Received: .*Update tfp"):
        PESNormalization.from_json(path)


def test_truncated_file(path):
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match="cannot be read"):
        PESNormalization.from_json(path)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"collective_variance": -1.0}, "a variance or scale is negative"),
        ({"collective_variance": float("nan")}, "collective_variance is nan"),
        ({"collective_variance": "0.1"}, "no number"),
        ({"elements": {"Hx": {}}}, "unknown elements Hx"),
        ({"elements": {"H": {"known": True}}}, "no 'energy_mean'"),
        ({"other_elements": None}, "damaged"),
        ({"elements": []}, "damaged"),
        ({"options": {"size_law": "auto"}}, "no 'per_element'"),
        ({"given": {}}, "no 'energy_mean'"),
        ({"report": {"fit": 1}}, "the report is incomplete"),
    ],
)
def test_damaged_file(path, entry, reason):
    change(path, **entry)
    with pytest.raises(ValueError, match=r"which is damaged.*\. Write it again") as e:
        PESNormalization.from_json(path)
    assert reason in str(e.value)


def test_option_of_the_wrong_type(path):
    content = json.loads(path.read_text())
    change(path, options=content["options"] | {"robust": "yes"})
    with pytest.raises(ValueError, match="option robust is 'yes'"):
        PESNormalization.from_json(path)


def test_a_failure_leaves_the_old_file(path, monkeypatch):
    before = path.read_text()

    def fail(*args):
        raise OSError("disk full")

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("inf")})
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {})
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]
