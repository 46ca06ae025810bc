"""What the documents say is run here."""

import doctest
import importlib
import pathlib
import pkgutil
import re
import runpy
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
    # Fewer structures, a small network: the quickstart trains with all that is here.
    code = "".join(blocks)
    for original, small in (
        ('load("alloys")', 'load("alloys")[::8]'),
        ("SchNet(cutoff=5.0)", "SchNet(cutoff=5.0, channels=4, blocks=1)"),
    ):
        assert code.count(original) == 1
        code = code.replace(original, small)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=540,
    )
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "saved_model/saved_model.pb").is_file()


@pytest.mark.slow
def test_readme_says_what_the_benchmark_found(readme):
    spreads = runpy.run_path(ROOT / "benchmarks/spread.py")["spreads"]
    text = " ".join(readme.split())
    for name, sentence in (
        ("molecules", "by a factor of {} for total energies, {} for energies per atom "
         "and {} for `tfpes`"),
        ("alloys", "on `alloys` by {}, {} and {}."),
    ):  # fmt: skip
        _, rms, _ = spreads(name)
        factors = rms.max(axis=1) / rms.min(axis=1)
        assert sentence.format(*(f"{factor:.1f}" for factor in factors)) in text


def test_readme_is_short_and_has_the_two_commands(readme):
    assert len(readme.splitlines()) <= 110
    commands = re.findall(r"^python -m pip install .* && .*$", readme, re.MULTILINE)
    assert commands == [
        "python -m pip install . && tfpes train",
        "python -m pip install '.[test]' && python -m pytest -n 2 --dist loadfile",
    ]
