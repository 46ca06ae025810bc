"""Statistics as a JSON file."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tfpes.files import write_json
from tfpes.layers import PESNormalization
from tfpes.losses import VirialLoss
from tfpes.statistics import FitOptions
from tfpes.targets import structure_target


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


OPTIONS = dataclasses.asdict(FitOptions())


def change(path, **entries):
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps(content))


def test_round_trip_is_exact(norm, path):
    again = PESNormalization.from_json(path)
    assert_same(again, norm)
    assert again.options.size_law == "auto"
    assert str(again.report) == str(norm.report)
    assert again.report.warnings == norm.report.warnings


@pytest.mark.slow
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


def test_version_1_had_one_scale_for_pressure_and_shear(path):
    content = json.loads(path.read_text())
    new = {"pressure_mean", "pressure_scale"}
    for entry in (*content["elements"].values(), content["other_elements"]):
        for name in new:
            del entry[name]
    entries = content["elements"] | {"": content["other_elements"]}
    tau = {symbol: entry["virial_scale"] for symbol, entry in entries.items()}
    given = {k: v for k, v in content["given"].items() if k not in new}
    content |= {"version": 1, "given": given | {"virial_scale": {"Cu": tau["Cu"]}}}
    content = {k: v for k, v in content.items() if not k.startswith("collective_p")}
    del content["collective_virial_variance"]
    virial = content["report"]["virial"]
    virial["scale"] = virial.pop("pressure")["scale"]
    path.write_text(json.dumps(content))
    layer = PESNormalization.from_json(path)
    # The loss was the mean over nine entries of W / √(Σ n τ²).
    counts = np.zeros((1, 119))
    counts[0, [8, 29]] = 3, 4
    error = np.array([[[1.0, 0.3, -0.2], [0.3, 2.0, 0.7], [-0.2, 0.7, -0.5]]])
    target = structure_target(0 * error, counts)
    found = float(VirialLoss(layer)(target, error))
    expected = np.mean(error**2) / (3 * tau["O"] ** 2 + 4 * tau["Cu"] ** 2)
    assert found == pytest.approx(expected, rel=1e-12)
    given = layer.get_config()["virial_scale"]
    assert given == {"Cu": pytest.approx(tau["Cu"] * 1.5**0.5)}
    assert "scale of one atom: " in " ".join(str(layer.report).split())


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


JSON = r"is JSON\. Received: .*cannot be read.*\. Write it again"
KIND = r'says `"format": "tfpes.statistics"`\. Received'
DAMAGED = r"which is damaged \(.*%s.*\)\. Write it again"
VERSION = r"version 2 or older\. Received: .*\. Update tfpes"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", JSON),
        (b"\xff\xfe\x00", JSON),
        (b"PK\x03\x04", JSON),
        (slice(500), JSON),  # cut off
        (b"[]", KIND),
        (b"{}", KIND),
        (b'{"format": "geojson"}', KIND),
        (b"3", KIND),
        ({"version": 3}, VERSION),
        ({"version": 0}, VERSION),
        ({"version": None}, VERSION),
        ({"version": "1"}, VERSION),
        ({"collective_variance": -1.0}, DAMAGED % "collective_variance is negative"),
        ({"collective_variance": float("nan")}, DAMAGED % "collective_variance is nan"),
        ({"collective_variance": "0.1"}, DAMAGED % "no number"),
        ({"elements": {"Hx": {}}}, DAMAGED % "unknown elements Hx"),
        ({"elements": {"H": {"known": True}}}, DAMAGED % "no 'energy_mean'"),
        ({"other_elements": None}, DAMAGED % ""),
        ({"elements": []}, DAMAGED % ""),
        ({"options": {"size_law": "auto"}}, DAMAGED % "no 'per_element'"),
        ({"options": OPTIONS | {"robust": "yes"}}, DAMAGED % "`robust` must be True"),
        ({"options": OPTIONS | {"size_law": "sqrt"}}, DAMAGED % "must be one of"),
        ({"given": {}}, DAMAGED % "no 'energy_mean'"),
        ({"report": {"fit": 1}}, DAMAGED % "the report is incomplete"),
        (
            {"report": {"fit": {"size_law": "sqrt"}, "structures": 1, "warnings": []}},
            DAMAGED % "unknown size law 'sqrt'",
        ),
    ],
)
def test_bad_files(path, content, message):
    if isinstance(content, dict):
        change(path, **content)
    elif isinstance(content, slice):
        path.write_text(path.read_text()[content])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        PESNormalization.from_json(path)


@pytest.mark.parametrize("name", ["energy_variance", "force_scale", "virial_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_scales_are_positive(path, name, value):
    content = json.loads(path.read_text())
    for entry in content["elements"].values():
        entry[name] = entry[name] or 1.0
    content["other_elements"][name] = content["other_elements"][name] or 1.0
    next(iter(content["elements"].values()))[name] = value
    change(path, **content)
    with pytest.raises(ValueError, match=DAMAGED % f"{name} is not positive"):
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
