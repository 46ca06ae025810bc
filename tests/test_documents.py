"""What the documents say is run here."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import numpy as np
import pytest

import tfpes

ROOT = pathlib.Path(__file__).parents[1]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(tfpes.__path__, "tfpes.")
    # The scripts that made the embedded data need an extra.
    if ".generate" not in module.name
]


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
def test_readme_code_runs(readme, tmp_path, monkeypatch):
    """Word for word, on a part of the data set that it loads."""
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(blocks) == 2
    load = tfpes.data.load
    monkeypatch.setattr(tfpes.data, "load", lambda name: load(name)[:120])
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    exec(compile("".join(blocks), "README.md", "exec"), names)
    assert len(names["structures"]) == 120
    assert np.isfinite(names["atoms"].get_forces()).all()
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "saved_model/saved_model.pb").is_file()


def test_readme_is_short_and_has_the_two_commands(readme):
    assert len(readme.splitlines()) <= 110
    commands = re.findall(r"^python -m pip install .* && .*$", readme, re.MULTILINE)
    assert commands == [
        "python -m pip install . && tfpes train",
        "python -m pip install '.[test]' && python -m pytest -n 2 --dist loadfile",
    ]
