"""The plan of the `molecules` set: molecules and clusters, labelled by GFN2-xTB."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii, ground_state_magnetic_moments
from ase.optimize import FIRE
from generate_shared import Trajectory
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

__all__ = ["SEED", "calculator", "plan"]

SEED = 20240501

_ELEMENTS = ("H", "B", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl")

# Closed shells only: radicals make the self-consistent field jump between states.
_MOLECULES = (
    *("H2", "N2", "CO", "HF", "HCl", "NaCl", "H2O", "CO2", "HCN", "SH2", "NH3", "PH3"),
    *("CH4", "SiH4", "SO2", "C2H2", "H2CO", "BF3", "BCl3", "PF3", "SiF4", "H2O2"),
    *("N2H4", "HCCl3", "CH3Cl", "H2CF2", "C2H4", "C2H6", "CH3OH", "CH3SH", "CH3CN"),
    *("CH3CHO", "HCOOH", "H3CNH2", "CH3SiH3", "Si2H6", "CH3CH2OH", "CH3OCH3"),
    *("CH3SCH3", "CH3COCH3", "CH3COOH", "CH3CONH2", "CH3NO2", "C6H6", "C5H5N"),
    *("C4H4O", "C4H4S", "C2H6SO"),
)
# The large clusters are made of the first `_LARGE_KINDS`.
_CLUSTERS = (
    ("H2O",),
    ("CH3OH", "H2O"),
    ("CH3CH2OH",),
    ("NaCl", "H2O"),
    ("CH3COCH3", "HCCl3"),
    ("NH3",),
    ("C6H6",),
    ("SiH4", "CH4"),
    ("CH3CN", "CH3NO2"),
    ("C2H6SO", "H2O"),
    ("PH3", "CH3Cl"),
    ("CH3COOH", "H2O"),
    ("BF3", "CH3OCH3"),
    ("Si2H6", "C2H6"),
    ("CH3SH", "CH3OH"),
    ("H3CNH2", "H2O"),
    ("PF3", "SiF4"),
    ("C4H4S", "C5H5N"),
    ("CH3CONH2",),
    ("HF", "H2O"),
    ("BF3", "NH3"),
    ("BCl3", "CH3Cl"),
    ("HCl", "H2O"),
    ("NaCl", "CH3OH"),
    ("SH2", "SO2"),
    ("PH3", "H2O"),
    ("H2CF2", "CO2"),
    ("N2H4", "H2O"),
)
_LARGE_KINDS = 20
_MAX_MOLECULES = 24

_MOLECULE_TEMPERATURES = (300.0, 600.0, 1000.0)
_CLUSTER_TEMPERATURES = (250.0, 400.0, 600.0)
_FRICTION = 0.03
_MAX_FORCE = 25.0
_REACH = 4.5  # Å; a molecule with no neighbour in reach has evaporated.


def calculator(atoms: Atoms | None = None) -> Calculator:
    """Returns a fresh GFN2-xTB calculator: for dynamics, or for labels of `atoms`."""
    from tblite.ase import TBLite

    multiplicity = None
    if atoms is not None and len(atoms) == 1:
        multiplicity = 1 + int(ground_state_magnetic_moments[atoms.numbers[0]])
    return TBLite(
        method="GFN2-xTB",
        multiplicity=multiplicity,
        # At the default, 1, forces of large clusters are off by 2e-4 eV/Å, more than
        # the last digit of the file.
        accuracy=1.0 if atoms is None else 0.1,
        verbosity=0,
    )


def plan() -> Iterator[Trajectory]:
    """Yields every trajectory of the set; a lone atom is a trajectory of one frame."""
    for name in _ELEMENTS:
        yield Trajectory(
            build=functools.partial(_lone, name),
            calculator=calculator,
            schedule=(),
            config_type="isolated_atom",
            name=f"{name} atom",  # Readers take a plain `F` for the value False.
            count=1,
            gap=0,
            timestep=0.0,
            friction=_FRICTION,
            max_force=_MAX_FORCE,
        )
    for name in _MOLECULES:
        for temperature in _MOLECULE_TEMPERATURES:
            yield Trajectory(
                build=functools.partial(_single, name),
                calculator=calculator,
                schedule=((100, temperature),),
                config_type="molecule",
                name=name,
                count=5,
                gap=50,
                timestep=0.5,
                friction=_FRICTION,
                max_force=_MAX_FORCE,
                intact=_is_connected,
            )
    sizes = [(kinds, 14.0, 6) for kinds in _CLUSTERS]
    middle = np.linspace(20, 46, 2 * len(_CLUSTERS))
    sizes += [(_CLUSTERS[11 * i % len(_CLUSTERS)], s, 8) for i, s in enumerate(middle)]
    large = np.linspace(52, 96, _LARGE_KINDS)
    sizes += [(_CLUSTERS[7 * i % _LARGE_KINDS], s, 10) for i, s in enumerate(large)]
    for index, (kinds, size, count) in enumerate(sizes):
        members = _members(kinds, size)
        yield Trajectory(
            build=functools.partial(_cluster, members),
            calculator=calculator,
            schedule=((80, _CLUSTER_TEMPERATURES[index % 3]),),
            config_type="cluster",
            name=" + ".join(f"{members.count(kind)} {kind}" for kind in kinds),
            count=count,
            gap=20,
            timestep=1.0,
            friction=_FRICTION,
            max_force=_MAX_FORCE,
            intact=_is_connected,
        )


def _members(kinds: tuple[str, ...], size: float) -> list[str]:
    """Names of the molecules that bring a cluster just up to `size` atoms."""
    # Salt is the guest: the charges of much salt at random places do not converge.
    unit = (kinds[0], *4 * kinds[1:]) if kinds[0] == "NaCl" else kinds
    members: list[str] = []
    total = 0
    while len(members) < _MAX_MOLECULES:
        name = unit[len(members) % len(unit)]
        total += len(molecule(name))
        if total > size and len(members) >= max(2, len(kinds)):
            break
        members.append(name)
    return members


def _lone(symbol: str, rng: np.random.Generator) -> Atoms:
    del rng
    return Atoms([symbol], [[0.0, 0.0, 0.0]])


def _single(name: str, rng: np.random.Generator) -> Atoms:
    return _relaxed(_rotated(name, rng), rng)


def _cluster(members: list[str], rng: np.random.Generator) -> Atoms:
    return _relaxed(_packed(members, rng), rng)


def _rotated(name: str, rng: np.random.Generator) -> Atoms:
    atoms = molecule(name)
    atoms.positions -= atoms.positions.mean(axis=0)
    rotation, triangle = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation *= np.sign(np.diag(triangle))
    atoms.positions = atoms.positions @ (rotation * np.linalg.det(rotation))
    atoms.set_initial_magnetic_moments(None)
    return atoms


def _packed(members: list[str], rng: np.random.Generator) -> Atoms:
    """Lets molecules in one by one, each to the innermost place that it finds."""
    cluster = _rotated(members[0], rng)
    for name in members[1:]:
        guest = _rotated(name, rng)
        radii = _radii(guest)[:, None] + _radii(cluster)[None, :]
        directions = rng.standard_normal((12, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        best = np.full(3, np.inf)
        for direction in directions:
            for distance in np.arange(0.0, 40.0, 0.2):
                shift = distance * direction
                gaps = cdist(guest.positions + shift, cluster.positions) - radii
                if gaps.min() > 0:
                    break
            if distance < np.linalg.norm(best):
                best = shift
        guest.positions += best
        cluster += guest
        cluster.positions -= cluster.positions.mean(axis=0)
    return cluster


def _radii(atoms: Atoms) -> np.ndarray:
    """Contact radii: 2.2 Å between two hydrogens, 3.1 Å between two carbons."""
    # The covalent radius of sodium, 1.66 Å, is that of the atom, not of the ion.
    return np.minimum(covalent_radii[atoms.numbers], 1.1) + 0.8


def _relaxed(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Takes the worst contacts away; the thermostat would turn them into heat."""
    atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
    atoms.calc = calculator()
    FIRE(atoms, logfile=None).run(fmax=0.3, steps=15)
    return atoms


def _is_connected(atoms: Atoms) -> bool:
    close = cdist(atoms.positions, atoms.positions) < _REACH
    return bool(connected_components(close, directed=False)[0] == 1)
