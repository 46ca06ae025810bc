"""The house: who may import whom, and where names live.

Imports are read from the source, so that those inside functions and behind
`TYPE_CHECKING` count as well: a circle hidden is a circle.
"""

import ast
import importlib
import pathlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

import tfpes

ROOT = pathlib.Path(tfpes.__file__).parent
FACE = "tfpes"

# A room imports only rooms above it in this list.
ORDER = (
    "elements",
    "files",
    "plotting",
    "terminal",
    "targets",
    "statistics",
    "layers",
    "losses",
    "metrics",
    "callbacks",
    "data",
    "distribute",
    "models",
    "inference",
    "evaluation",
    "finetuning",
    "diagnostics",
    "training",
    "cli",
)
# Narrower than the order: what these may use at all.
ONLY = {
    "elements": set(),
    "files": set(),
    "plotting": {"files"},
    "terminal": set(),
    "targets": {"elements"},
    "statistics": {"elements", "files"},
    "layers": {"elements", "targets", "statistics"},
    "losses": {"elements", "targets", "statistics", "layers"},
    "metrics": {"elements", "targets", "statistics", "layers", "losses"},
    "callbacks": {"files"},
    "data": {"elements", "files", "targets", "terminal"},
    "distribute": {"targets", "layers", "losses"},
    "models": {"elements", "files", "targets", "statistics", "layers"},
}
ASE = {"data", "inference", "cli"}
NO_TENSORFLOW = {"elements", "files", "plotting", "statistics", "terminal"}

PUBLIC = {
    "callbacks": "BestModel CosineBudget LossWeightSchedule StopOnNaN exponential "
    "linear step",
    "data": "Padding Structures load read",
    "distribute": "Cluster",
    "evaluation": "Comparison Errors Evaluation Predictions compositions evaluate "
    "predict size_bins",
    "layers": "PESNormalization",
    "losses": "EnergyLoss ForceLoss VirialLoss energy_error force_error virial_error",
    "metrics": "EFwT EnergyMAE EnergyRMSE ForceCosine ForceMAE ForceRMSE "
    "MaxForceError StandardizedRMSE VirialMAE VirialRMSE",
    "models": "ElementEmbedding PaiNN Potential SchNet edge_vectors",
    "statistics": "AtomicTable CompositionTable EnergyFit FitOptions LawFit Report "
    "ScaleFit Statistics VirialFit fit_energy fit_forces fit_virial make_report "
    "split_virial",
    "training": "DEFAULT_MINUTES Options resume train",
}


def _module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in SOURCES.items()}


def _imports(name):
    """Return the modules that a module imports, wherever it does, and what of them."""
    found = []
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in SOURCES:
                    found.append((whole, None))
                else:
                    found.append((node.module, alias.name))
    return found


IMPORTS = {name: _imports(name) for name in SOURCES}


def _room(module):
    parts = module.split(".")
    return parts[1] if parts[1:] not in ([], ["__main__"]) else FACE


def _own(name):
    """Return the modules of the package that a module imports."""
    return {module for module, _ in IMPORTS[name] if module in SOURCES}


def test_rooms_are_those_of_the_plan():
    rooms = {_room(name) for name in SOURCES} - {FACE}
    assert rooms == set(ORDER)


def test_no_circle_of_modules():
    try:
        list(TopologicalSorter({name: _own(name) for name in SOURCES}).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ORDER)
def test_no_import_upward(room):
    allowed = ONLY.get(room, set(ORDER[: ORDER.index(room)])) | {room}
    wrong = [
        f"{name} imports {module}"
        for name in SOURCES
        if _room(name) == room
        for module in _own(name)
        if _room(module) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("ase", ASE),
        ("tensorflow", set(ORDER) - NO_TENSORFLOW),
        ("keras", set(ORDER) - NO_TENSORFLOW - {"targets"} | {FACE}),
        ("typer", {"cli"}),
    ],
)
def test_who_imports_which_library(package, rooms):
    users = {
        name
        for name in SOURCES
        for module, _ in IMPORTS[name]
        if module.split(".")[0] == package
    }
    assert {name for name in users if _room(name) not in rooms} == set()


def test_statistics_run_without_tensorflow():
    program = (
        "import sys; sys.modules.update(tensorflow=None, keras=None)\n"
        "import tfpes.statistics as s, numpy as np\n"
        "table = s.CompositionTable()\n"
        "table.update(np.eye(119)[[29, 29, 47]] * 2, [-6.1, -6.3, -5.0])\n"
        "print(s.fit_energy(table))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "EnergyFit" in done.stdout


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_names_that_packages_offer(package):
    offered = set(importlib.import_module(f"tfpes.{package}").__all__)
    assert set(PUBLIC[package].split()) <= offered


def _defined(name):
    """Return the classes, functions and constants that a module defines, in order."""
    for node in TREES[name].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_every_public_name_has_a_home():
    """What no package offers and no other module uses begins with an underscore."""
    used = {(module, what) for name in SOURCES for module, what in IMPORTS[name]}
    # `module.name` where the module itself was imported.
    attributes = {
        (module, node.attr)
        for name in SOURCES
        for module in _own(name)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module.rpartition(".")[2]
    }
    homeless = [
        f"{name}.{what}"
        for name in SOURCES
        if name != FACE and not SOURCES[name].name.startswith("__")
        for what in _defined(name)
        if not what.startswith("_")
        and (name, what) not in used | attributes
        and what not in PUBLIC_MODULES.get(name, ())
    ]
    assert not homeless


# Modules that are a room of their own are their own face.
PUBLIC_MODULES = {
    f"tfpes.{room}": set(importlib.import_module(f"tfpes.{room}").__dict__)
    for room in ("elements", "files", "plotting", "targets", "terminal", "finetuning")
}


@pytest.mark.parametrize(
    "package", [name for name, path in SOURCES.items() if path.name == "__init__.py"]
)
def test_faces_offer_what_is_theirs(package):
    """`__all__` is complete, sorted by ruff, and of this package or one above it."""
    offered = getattr(importlib.import_module(package), "__all__", ())
    imported = {
        what or module.rpartition(".")[2]
        for module, what in IMPORTS[package]
        if module.split(".")[0] == FACE
    }
    assert imported <= set(offered)


def test_private_names_stay_in_their_module():
    wrong = [
        f"{name} imports {module}.{what}"
        for name in SOURCES
        for module, what in IMPORTS[name]
        if module.startswith("tfpes") and what and what.startswith("_")
        if what != "__version__"
    ]
    assert not wrong


def test_sizes():
    """A module fits into a head; more of them is cheaper than longer ones."""
    lines = {
        name: len(SOURCES[name].read_text("utf-8").splitlines()) for name in SOURCES
    }
    assert {name: n for name, n in lines.items() if n > 300} == {}
    top = {path.name for path in ROOT.iterdir() if not path.name.startswith("__")}
    assert len(top) <= 20
