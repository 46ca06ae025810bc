"""What the documents say is run here."""

import doctest
import importlib
import json
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import tfpes

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [m.name for m in pkgutil.walk_packages(tfpes.__path__, "tfpes.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = sum(
        len(test.examples)
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
    )
    assert examples >= 10


@pytest.fixture
def readme():
    path = ROOT / "README.md"
    if not path.is_file():
        pytest.skip("README.md is not beside the tests")
    return path.read_text()


@pytest.mark.slow
def test_readme_code_runs(readme, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(blocks) == 2
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "".join(blocks)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=540,
    )
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "saved_model/saved_model.pb").is_file()


def test_readme_says_what_the_benchmark_found(readme):
    path = ROOT / "docs/results/ratio.json"
    sets = json.loads(path.read_text(encoding="utf-8"))["sets"].values()
    raw = [losses["raw"]["at 1:1"] for losses in sets]
    auto = sorted(losses["standardized, auto"]["at 1:1"] for losses in sets)
    text = " ".join(readme.split())
    assert f"the raw loss is {min(raw):.2f} to {max(raw):.2f} times as bad" in text
    assert f"{auto[-1]:.2f} times as bad on the fourth" in text
    assert auto[:3] == [1.0, 1.0, 1.0]


def test_readme_is_short_and_has_the_two_commands(readme):
    assert len(readme.splitlines()) <= 110
    commands = re.findall(r"^python -m pip install .* && .*$", readme, re.MULTILINE)
    assert commands == [
        "python -m pip install . && tfpes train",
        "python -m pip install '.[test]' && python -m pytest -n 2 --dist loadfile",
    ]
