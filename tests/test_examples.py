"""The examples that train models of others really learn."""

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
    assert_learned(run("functional_model.py", "--epochs", "5"), 0.6)


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("kgcnn"), reason="kgcnn is not installed"
)
def test_a_model_of_kgcnn_learns():
    assert_learned(run("kgcnn_model.py", "--epochs", "4"), 0.7)
