"""The plan of the `alloys` set: crystals, solutions, liquids and glasses of EMT."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from generate_shared import Trajectory

__all__ = ["SEED", "calculator", "plan"]

SEED = 20240502

# Lattice constants, in Å, at which EMT gives fcc crystals no pressure.
_LATTICE = {
    "Ni": 3.4871,
    "Cu": 3.5898,
    "Pd": 3.8787,
    "Pt": 3.9218,
    "Au": 4.0562,
    "Ag": 4.0636,
}
_ELEMENTS = tuple(_LATTICE)

_Repeat: TypeAlias = tuple[int, int, int]
_Parent: TypeAlias = tuple[str, _Repeat]

# (lattice, repetitions, elements of the sites): 1 to 16 atoms. `fcc4` and `bcc2` are
# the cubic cells. ABBB is L1_2, ABBA is L1_0, AB on `bcc2` is B2.
_ORDERED = (
    ("fcc", (1, 1, 1), "A"),
    ("bcc", (1, 1, 1), "A"),
    ("hcp", (1, 1, 1), "AA"),
    ("hcp", (1, 1, 1), "AB"),
    ("bcc2", (1, 1, 1), "AB"),
    ("fcc4", (1, 1, 1), "AAAA"),
    ("fcc4", (1, 1, 1), "ABBB"),
    ("fcc4", (1, 1, 1), "ABBA"),
    ("fcc4", (1, 1, 1), "ABCC"),
    ("fcc", (2, 2, 2), "A"),
    ("hcp", (2, 2, 1), "AA"),
    ("fcc4", (2, 1, 1), "ABBB"),
    ("fcc4", (1, 2, 2), "ABBA"),
    ("bcc2", (2, 2, 2), "AB"),
)
_MIXED = (
    ("fcc", (2, 1, 1)),
    ("fcc", (3, 1, 1)),
    ("fcc4", (1, 1, 1)),
    ("fcc", (3, 2, 1)),
    ("fcc", (2, 2, 2)),
    ("bcc", (2, 2, 2)),
    ("hcp", (2, 2, 1)),
    ("fcc4", (3, 1, 1)),
    ("hcp", (3, 2, 1)),
    ("fcc4", (2, 2, 1)),
    ("bcc2", (2, 2, 2)),
    ("hcp", (2, 2, 2)),
)
_MEDIUM = (
    ("fcc4", (2, 2, 2)),
    ("bcc2", (5, 2, 1)),
    ("fcc", (3, 3, 3)),
    ("hcp", (3, 3, 2)),
    ("fcc4", (3, 2, 2)),
    ("bcc2", (3, 3, 3)),
    ("fcc4", (4, 2, 2)),
)
# Twenty atoms in a thin cell cannot help being ordered.
_DISORDERED = tuple(parent for parent in _MEDIUM if parent[1] != (5, 2, 1))
_LARGE = (
    ("hcp", (5, 3, 3)),
    ("bcc2", (4, 4, 3)),
    ("fcc4", (3, 3, 3)),
    ("bcc2", (4, 4, 4)),
    ("fcc4", (4, 3, 3)),
    ("bcc2", (5, 5, 3)),
    ("fcc4", (4, 4, 3)),
    ("fcc4", (4, 4, 4)),
)
_WARM = (300.0, 600.0, 900.0, 1200.0)
# At fixed volume, a perfect crystal outlives 4000 K for picoseconds.
_MELT = (300, 6000.0)
_QUENCH = tuple((50, t) for t in (4000.0, 2800.0, 2000.0, 1300.0, 800.0, 500.0, 300.0))
_MAX_FORCE = 20.0


def calculator(atoms: Atoms | None = None) -> Calculator:
    """Returns a fresh EMT calculator."""
    del atoms
    return EMT()


def plan() -> Iterator[Trajectory]:
    """Yields every trajectory of the set."""
    yield from _small()
    # Every element alone, and copper once more, in the cells that dynamics start from.
    pure = [[element] for element in _ELEMENTS]
    alloys: list[list[str] | None] = [None]
    supercell = ("fcc4", (2, 2, 2))
    yield from _solids([supercell], [*pure, ["Cu"], *7 * alloys])
    yield from _solids(_MEDIUM[1:], 22 * alloys)
    yield from _disordered(_DISORDERED, 24)
    supercell = ("fcc4", (3, 3, 3))
    yield from _solids([supercell], [*pure, ["Cu"], ["Cu"], *4 * alloys])
    yield from _solids([("fcc4", (4, 4, 4))], [["Cu"], None])
    yield from _disordered(_LARGE, 26)


def _small() -> Iterator[Trajectory]:
    temperatures = (100.0, *_WARM)
    build: Callable[[np.random.Generator], Atoms]
    for index in range(500):
        ordered = index < 224
        if ordered:
            build = functools.partial(_ordered, *_ORDERED[index % len(_ORDERED)])
        else:
            parent = _MIXED[index % len(_MIXED)]
            build = functools.partial(_mixed, parent, None, 2, (0.94, 1.06), 0.03)
        # Five temperatures share no factor with 14 or 12 lattices.
        schedule = ((60, temperatures[index % 5]),)
        yield _trajectory(build, schedule, "crystal" if ordered else "solution", 1, 1)


def _solids(
    parents: Sequence[_Parent], elements: Sequence[list[str] | None]
) -> Iterator[Trajectory]:
    for index, chosen in enumerate(elements):
        parent = parents[index % len(parents)]
        build = functools.partial(_mixed, parent, chosen, 2, (0.98, 1.03), 0.01)
        schedule = ((80, _WARM[index % len(_WARM)]),)
        config_type = "solution" if chosen is None else "crystal"
        yield _trajectory(build, schedule, config_type, 3, 30)


def _disordered(parents: Sequence[_Parent], count: int) -> Iterator[Trajectory]:
    schedule: tuple[tuple[int, float], ...]
    for index in range(count):
        turn, place = divmod(index, len(parents))
        parent = parents[place]
        # The kind changes with every turn, so each parent gets both.
        quenched = (turn + place) % 2 == 1
        limits = (0.98, 1.03) if quenched else (1.0, 1.06)
        build = functools.partial(_mixed, parent, None, 1, limits, 0.0)
        if quenched:
            schedule = (_MELT, *_QUENCH)
        else:
            schedule = (_MELT, (100, (1500.0, 2000.0, 3000.0)[index % 3]))
        config_type = "amorphous" if quenched else "liquid"
        yield _trajectory(build, schedule, config_type, 3, 50, _is_disordered)


def _trajectory(
    build: Callable[[np.random.Generator], Atoms],
    schedule: tuple[tuple[int, float], ...],
    config_type: str,
    count: int,
    gap: int,
    intact: Callable[[Atoms], bool] = lambda atoms: True,
) -> Trajectory:
    return Trajectory(
        build=build,
        calculator=calculator,
        schedule=schedule,
        config_type=config_type,
        count=count,
        gap=gap,
        timestep=4.0,
        friction=0.02,
        max_force=_MAX_FORCE,
        intact=intact,
    )


def _is_disordered(atoms: Atoms) -> bool:
    """Whether no plane wave keeps the phase of the atoms, as it does in a crystal."""
    grid = np.stack(np.meshgrid(*3 * [np.arange(-8, 9)]), axis=-1).reshape(-1, 3)
    waves = grid[len(grid) // 2 + 1 :]  # The other half are their opposites.
    lengths = np.linalg.norm(waves @ atoms.cell.reciprocal().array, axis=1)
    # Bragg peaks of these metals begin near 0.45 / Å.
    phases = atoms.get_scaled_positions(wrap=False) @ waves[lengths < 0.65].T
    peak = np.abs(np.exp(2j * np.pi * phases).mean(axis=0)).max()
    # The few atoms of a small cell agree by chance more often.
    return bool(peak < (0.6 if len(atoms) >= 90 else 0.75))


def _ordered(
    lattice: str, repeat: _Repeat, pattern: str, rng: np.random.Generator
) -> Atoms:
    atoms = _lattice(lattice)
    palette = dict(zip("ABC", rng.permutation(_ELEMENTS), strict=False))
    atoms.symbols = [str(palette[site]) for site in pattern]
    return _strain(atoms.repeat(repeat), rng, (0.94, 1.06), shear=0.03)


def _mixed(
    parent: _Parent,
    chosen: list[str] | None,
    least: int,
    limits: tuple[float, float],
    shear: float,
    rng: np.random.Generator,
) -> Atoms:
    lattice, repeat = parent
    atoms = _colour(_lattice(lattice).repeat(repeat), chosen, rng, least=least)
    return _strain(atoms, rng, limits, shear=shear)


def _lattice(name: str) -> Atoms:
    cubic = name in ("fcc4", "bcc2")
    return bulk("Cu", name[:3], a=1.0, cubic=cubic)


def _colour(
    atoms: Atoms, chosen: list[str] | None, rng: np.random.Generator, *, least: int
) -> Atoms:
    """Gives every site one of `chosen`, or of `least` to six random elements."""
    if chosen is None:
        most = min(len(_ELEMENTS), len(atoms))
        kinds = rng.permutation(_ELEMENTS)[: rng.integers(least, most + 1)]
        # Each kind once, the rest at a random ratio, so that no kind is lost.
        ratio = rng.dirichlet(np.full(len(kinds), 2.0))
        rest = rng.choice(kinds, size=len(atoms) - len(kinds), p=ratio)
        sites = rng.permutation(np.concatenate([kinds, rest]))
    else:
        sites = rng.choice(chosen, size=len(atoms))
    atoms.symbols = [str(site) for site in sites]
    return atoms


def _strain(
    atoms: Atoms, rng: np.random.Generator, limits: tuple[float, float], shear: float
) -> Atoms:
    """Deforms the cell to Vegard's volume times the cube of a strain in `limits`."""
    noise = rng.normal(scale=shear, size=(3, 3))
    cell = atoms.cell.array @ (np.eye(3) + (noise + noise.T) / 2)
    lattice = np.mean([_LATTICE[symbol] for symbol in atoms.symbols])
    volume = len(atoms) / 4 * (lattice * rng.uniform(*limits)) ** 3
    cell *= (volume / abs(np.linalg.det(cell))) ** (1 / 3)
    atoms.set_cell(cell, scale_atoms=True)
    return atoms
