"""The calculator against ASE's own one of the same energy, and what it is used for."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc100
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from tfpes import Calculator
from tfpes.data.labels import has_volume


@pytest.fixture(scope="module")
def calculator64(lennard_jones):
    return Calculator(lennard_jones.saved_model64)


@pytest.fixture(scope="module")
def calculator32(lennard_jones):
    return Calculator(lennard_jones.saved_model)


def rattled(atoms, amplitude=0.15):
    atoms.rattle(amplitude, rng=np.random.default_rng(1))
    return atoms


def skewed():
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.1 * np.eye(3, k=1)), True)
    return rattled(atoms)


CASES = {
    # One atom, all of whose neighbours are its own images, in a cell far smaller than
    # the cutoff.
    "one atom": bulk("Cu", a=3.4),
    "small cell": skewed(),
    "slab": rattled(fcc100("Au", (1, 1, 3), vacuum=4.0)),
    "wire": Atoms("Cu2", [[0, 0, 0], [0, 1.6, 1.5]], cell=[0, 0, 2.6], pbc=[0, 0, 1]),
    "dimer": Atoms("CuAu", [[0, 0, 0], [0.3, 0.2, 3.4]]),
    "isolated atom": Atoms("Cu"),
    "no edge": Atoms("Cu2", [[0, 0, 0], [9, 0, 0]]),
    "no edge, periodic": Atoms("Cu", cell=[5, 6, 7], pbc=True),
}


@pytest.mark.parametrize("case", CASES)
def test_against_ase(case, calculator64, lennard_jones):
    ours, theirs = CASES[case].copy(), CASES[case].copy()
    ours.calc, theirs.calc = calculator64, lennard_jones.reference()
    scale = max(1.0, abs(theirs.get_potential_energy()))
    energy = ours.get_potential_energy()
    assert abs(energy - theirs.get_potential_energy()) < 1e-12 * scale
    assert (energy == 0) == ("isolated" in case or "no edge" in case)
    forces = theirs.get_forces()
    bound = 1e-12 * max(1.0, np.abs(forces).max())
    np.testing.assert_allclose(ours.get_forces(), forces, rtol=0, atol=bound)
    if has_volume(ours):
        stress = theirs.get_stress()
        np.testing.assert_allclose(ours.get_stress(), stress, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_against_central_differences(case, calculator64):
    atoms = CASES[case].copy()
    atoms.calc = calculator64
    forces = atoms.get_forces()
    expected = calculate_numerical_forces(atoms, eps=1e-5)
    bound = 1e-6 * max(np.abs(forces).max(), 1e-3)
    np.testing.assert_allclose(forces, expected, rtol=0, atol=bound)
    if has_volume(atoms):
        stress = atoms.get_stress()
        expected = calculate_numerical_stress(atoms, eps=1e-6)
        bound = 1e-6 * max(np.abs(stress).max(), 1e-3)
        np.testing.assert_allclose(stress, expected, rtol=0, atol=bound)


def test_many_structures(calculator64, lennard_jones):
    images = list(CASES.values())
    for atoms, result in zip(images, calculator64.predict(images, 3), strict=True):
        copy = atoms.copy()
        copy.calc = lennard_jones.reference()
        # The pipeline stores positions in float32.
        bound = 1e-5 * max(1.0, np.abs(copy.get_forces()).max())
        assert abs(result["energy"] - copy.get_potential_energy()) < bound
        np.testing.assert_allclose(
            result["forces"], copy.get_forces(), rtol=0, atol=bound
        )
        assert ("stress" in result) == has_volume(atoms)


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_skin_changes_nothing(lennard_jones, ensemble):
    """Two walks from one start, hot enough for several lists, stay together."""
    ends, builds = [], []
    for skin in (0.0, 0.1, 1.0):
        atoms = bulk("Cu", a=3.68, cubic=True) * (2, 1, 1)
        atoms.calc = calculator = Calculator(lennard_jones.saved_model64, skin=skin)
        thermalize_momenta(atoms, 2000, rng=np.random.default_rng(0))
        if ensemble == "nve":
            dynamics = VelocityVerlet(atoms, 2 * units.fs)
        else:
            step = 2 * units.fs
            dynamics = IsotropicMTKNPT(atoms, step, 2000, 0.05, 100 * step, 300 * step)
        dynamics.run(60)
        ends.append(np.concatenate([atoms.positions, atoms.cell.array]))
        builds.append(calculator._neighbours.builds)
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ends[2], ends[0], rtol=0, atol=1e-9)
    assert builds[0] == 61
    assert builds[0] > 2 * builds[1]
    assert builds[1] > builds[2] >= 1


def test_relaxation_ends_at_the_minimum_of_an_energy_scan(calculator64):
    volumes, energies = [], []
    for a in np.linspace(3.64, 3.71, 21):
        atoms = bulk("Cu", a=a)
        atoms.calc = calculator64
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    fit = EquationOfState(volumes, energies, "birchmurnaghan")
    volume, energy, modulus = fit.fit()
    strained = bulk("Cu", a=3.68, cubic=True)
    strain = [[1.03, 0.02, 0.0], [0.0, 0.96, 0.01], [0.0, 0.0, 1.02]]
    strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
    rattled(strained, 0.1)
    strained.calc = calculator64
    with BFGS(FrechetCellFilter(strained), logfile=None) as search:
        assert search.run(fmax=1e-5, steps=200)
    assert strained.get_potential_energy() / 4 == pytest.approx(energy, abs=1e-5)
    assert strained.get_volume() / 4 == pytest.approx(volume, rel=1e-3)
    np.testing.assert_allclose(
        strained.cell.cellpar(), [(4 * volume) ** (1 / 3)] * 3 + [90.0] * 3, rtol=1e-3
    )
    assert modulus > 0
    assert np.abs(strained.get_stress()).max() < 1e-6


@pytest.mark.slow
def test_energy_is_conserved(calculator32):
    """5000 steps of 2 fs: to 0.5 meV per atom; forces 2 % too large would not do."""
    atoms = bulk("Cu", a=3.68, cubic=True) * (2, 2, 2)
    atoms.calc = calculator32
    thermalize_momenta(atoms, 600, rng=np.random.default_rng(0))
    Stationary(atoms)
    energies = []
    with VelocityVerlet(atoms, 2 * units.fs) as dynamics:
        dynamics.attach(
            lambda: energies.append(
                [atoms.get_total_energy(), atoms.get_potential_energy()]
            ),
            interval=50,
        )
        dynamics.run(5000)
    total, potential = np.array(energies).T / len(atoms)
    time = np.linspace(0, 1, len(total))
    drift = np.polyfit(time, total, 1)[0]
    assert abs(drift) < 1e-4
    assert np.abs(total - total[0]).max() < 5e-4
    assert np.ptp(potential) > 5e-3


@pytest.mark.slow
def test_thermostat_and_barostat(calculator32):
    atoms = bulk("Cu", a=3.68, cubic=True) * (2, 2, 1)
    atoms.calc = calculator32
    thermalize_momenta(atoms, 300, rng=np.random.default_rng(0))
    step = 2 * units.fs
    rng = np.random.default_rng(1)
    with Langevin(
        atoms, step, temperature_K=300, friction=0.05 / step, fixcm=False, rng=rng
    ) as dynamics:
        dynamics.run(200)
    pressures, conserved = [], []
    pressure = 3.0 * units.GPa
    with IsotropicMTKNPT(atoms, step, 300, pressure, 50 * step, 200 * step) as dynamics:
        for _ in dynamics.irun(1000):
            stress = atoms.get_stress(include_ideal_gas=True)
            pressures.append(-stress[:3].mean())
            conserved.append(dynamics.get_conserved_energy() / len(atoms))
    assert np.ptp(conserved) < 2e-3
    mean = np.mean(pressures[200:])
    assert abs(mean - pressure) < 0.5 * units.GPa
