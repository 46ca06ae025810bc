"""What the package is made of: NumPy and SciPy; its examples run."""

import ast
import doctest
import importlib
import pkgutil
import sys

import pytest

import tfpes.statistics

MODULES = [
    module.name
    for module in pkgutil.walk_packages(tfpes.statistics.__path__, "tfpes.statistics.")
]


@pytest.mark.parametrize("name", MODULES)
def test_only_numpy_and_scipy_and_examples_run(name):
    module = importlib.import_module(name)
    imported = set()
    with open(module.__file__, encoding="utf-8") as file:
        for node in ast.walk(ast.parse(file.read())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "scipy", "tfpes"}
    assert doctest.testmod(module).failed == 0


def test_index():
    for name in tfpes.statistics.__all__:
        assert getattr(tfpes.statistics, name).__doc__
