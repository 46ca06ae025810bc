"""The examples that train models of others really learn."""

import copy
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def run(name, *arguments):
    script = EXAMPLES / name
    if not script.is_file():
        pytest.skip("the examples are not beside the tests")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def errors(output):
    """Return {label: (spread, before, after)} from the table at the end."""
    lines = re.findall(r"^(energy|forces) \[.*?\] +(.*)$", output, re.MULTILINE)
    return {name: tuple(map(float, numbers.split())) for name, numbers in lines}


def assert_learned(output, fraction):
    found = errors(output)
    assert set(found) == {"energy", "forces"}
    for spread, before, after in found.values():
        assert before > 0.5 * spread
        assert after < fraction * spread


@pytest.mark.slow
def test_a_functional_model_learns():
    assert_learned(run("functional_model.py", "--epochs", "3"), 0.6)


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("kgcnn"), reason="kgcnn is not installed"
)
def test_a_model_of_kgcnn_learns():
    assert_learned(run("kgcnn_model.py", "--epochs", "4"), 0.7)


def test_statistics_with_beam_are_those_of_adapt(structures, close):
    """The four methods, called as Beam calls them."""
    import tfpes

    path = EXAMPLES / "beam_statistics.py"
    if not path.is_file():
        pytest.skip("the examples are not beside the tests")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    combine = module.Statistics("independent")
    bonded = structures[structures.num_edges > 0]
    parts = []
    for part in (bonded[:1], bonded[1:6], bonded[6:]):
        batch = {
            "composition": tfpes.evaluation.compositions(part),
            "energy": part.energy,
            "isolated": part.isolated_atoms,
            "atomic_numbers": part.atomic_numbers,
            "forces": part.forces,
            "structure_index": part.structure_index,
        }
        parts.append(combine.add_input(combine.create_accumulator(), batch))
    first = combine.merge_accumulators(parts[:2])
    merged = combine.merge_accumulators(map(copy.deepcopy, [parts[2], first]))
    energy, forces = combine.extract_output(merged)
    norm = tfpes.layers.PESNormalization()
    norm.adapt(bonded.batches(4))
    for name, values in {
        "energy_mean": energy.mean,
        "energy_variance": energy.variance,
        "force_scale": forces.scale,
    }.items():
        close(values[1:], norm.statistics[name][1:], "differences")
