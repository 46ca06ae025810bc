"""What the package is made of: NumPy and SciPy; its examples run."""

import ast
import doctest
import importlib
import pickle
import pkgutil
import sys

import numpy as np
import pytest

import tfpes.statistics
from tfpes.statistics import AtomicTable, CompositionTable

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


@pytest.mark.parametrize("keep", [False, True, None])
def test_tables_go_on_after_they_were_read_only(keep):
    """As those of a process pool that shares memory are."""

    def update(table, value):
        if keep is None:
            table.update([1, 8], [[value, 2, 3], [np.nan] * 3])
        else:
            table.update(2 * np.eye(119)[[1, 8]], [value, np.nan])

    tables = [
        AtomicTable() if keep is None else CompositionTable(keep_structures=keep)
        for _ in range(2)
    ]
    for table, value in zip(tables, (1.0, 2.0), strict=True):
        update(table, value)
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(tables[0], protocol=5, buffer_callback=buffers.append)
    read = [bytes(buffer.raw()) for buffer in buffers]
    loaded = pickle.loads(pickled, buffers=read)
    for table in (loaded, tables[0]):
        update(table, 4.0)
        table.merge(tables[1])
    for name, array in tables[0].state().items():
        np.testing.assert_array_equal(loaded.state()[name], array)
