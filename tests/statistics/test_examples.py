import doctest
import importlib
import pkgutil

import pytest

import tfpes.statistics

MODULES = [m.name for m in pkgutil.iter_modules(tfpes.statistics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"tfpes.statistics.{name}")
    assert doctest.testmod(module).failed == 0
