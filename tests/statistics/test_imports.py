import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfpes.statistics

FOLDER = Path(tfpes.statistics.__file__).parent
FORBIDDEN = {"tensorflow", "keras", "ase"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.name)
def test_only_numpy_and_scipy(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "scipy", "tfpes"}


def test_tensorflow_is_not_loaded():
    # A bare package stands in for `tfpes`, whose own `__init__` imports the layers.
    code = f"""
import sys, types
package = types.ModuleType("tfpes")
package.__path__ = [{str(FOLDER.parent)!r}]
sys.modules["tfpes"] = package
import tfpes.statistics
print(sorted({FORBIDDEN!r} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_index():
    for name in tfpes.statistics.__all__:
        assert getattr(tfpes.statistics, name).__doc__
