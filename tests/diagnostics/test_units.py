"""Labels of another unit or sign are found by comparing them with each other."""

import dataclasses

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from tfpes.data import read
from tfpes.diagnostics.units import advise_on_units

HARTREE_PER_BOHR = units.Hartree / units.Bohr


@pytest.fixture(scope="module")
def moved():
    """Frames of a crystal whose atoms move a little, over its faces too."""
    rng = np.random.default_rng(0)
    frames = []
    atoms = bulk("Cu", cubic=True) * (1, 1, 2)
    atoms.rattle(0.1, rng=rng)
    for _ in range(12):
        atoms = atoms.copy()
        atoms.positions += 0.05 * rng.normal(size=(8, 3)) + 0.3
        atoms.wrap()
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return read(frames, 4.0, verbose=False)


@pytest.fixture(scope="module")
def strained():
    """Frames of a crystal that is strained and sheared, without other moves."""
    rng = np.random.default_rng(1)
    frames = []
    for _ in range(12):
        atoms = bulk("Cu", a=3.7, cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.01 * rng.normal(size=(3, 3))), True)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        frames.append(atoms)
    return read(frames, 4.0, verbose=False)


def scaled(structures, **factors):
    changed = {name: f * getattr(structures, name) for name, f in factors.items()}
    return dataclasses.replace(structures, **changed)


def test_labels_that_fit(moved, strained):
    assert advise_on_units(moved) == advise_on_units(strained) == []


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ({"energy": 1 / units.Hartree}, "energies in Hartree would fit"),
        ({"energy": units.mol / units.kcal}, "energies in kcal/mol would fit"),
        ({"forces": 1 / HARTREE_PER_BOHR}, "forces in Hartree/Bohr would fit"),
        (
            {"forces": -1.0},
            "times -F·Δr, and should by 1: the opposite sign would fit",
        ),
        (
            {"forces": -1 / HARTREE_PER_BOHR},
            "forces in Hartree/Bohr of the opposite sign would fit",
        ),
        (
            {"energy": 1 / units.Hartree, "forces": 1 / HARTREE_PER_BOHR},
            "forces per Bohr would fit",
        ),
        ({"forces": 7.0}, "find out why"),
    ],
)
def test_forces_of_another_unit(moved, factors, text):
    (sentence,) = advise_on_units(scaled(moved, **factors))
    assert text in sentence


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (10 / units.GPa, "stresses in kbar would fit"),
        (-10 / units.GPa, "stresses in kbar of the opposite sign would fit"),
        (-1.0, "differ by -1 times the work of the stress, and should by 1: the opp"),
        (1 / units.GPa, "stresses in GPa would fit"),
    ],
)
def test_stresses_of_another_unit(strained, factor, text):
    (sentence,) = advise_on_units(scaled(strained, virial=factor))
    assert text in sentence


def test_stresses_that_cannot_be(strained):
    few = strained[:3]
    assert advise_on_units(few) == []
    (sentence,) = advise_on_units(scaled(few, virial=10 / units.GPa))
    assert "are not of this world; taken for kbar they would be" in sentence


def test_what_cannot_be_compared(moved, strained):
    for structures in (moved[::-1][:4], moved[[0] * 9], scaled(moved, forces=np.nan)):
        assert advise_on_units(structures) == []
    # Noise says nothing.
    noise = np.random.default_rng(0).normal(size=moved.forces.shape)
    changed = dataclasses.replace(moved, forces=noise.astype(np.float32))
    assert advise_on_units(changed) == []
