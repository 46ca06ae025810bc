"""The embedded data sets are what `tfpes.data.embedded` says they are."""

import collections
import functools
import io
import lzma
import pathlib
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.io import read

from tfpes.data import embedded
from tfpes.data.embedded import EMBEDDED, embedded_path

# The generators are not part of the package.
sys.path.append(str(pathlib.Path(__file__).parents[2] / "benchmarks" / "embedded"))
import generate
import generate_alloys

# Half of the last digit in the files.
ENERGY, FORCE, STRESS = 0.5e-6, 0.5e-4, 0.5e-7
SIZE_CLASSES = ((1, 16), (20, 64), (90, 256))


MOLECULES = {"cluster": 816, "isolated_atom": 11, "molecule": 720}
ELEMENTS = ("H", "B", "C", "N", "O", "F", "Na", "Si", "P", "S", "Cl")
ALLOYS = {"amorphous": 75, "crystal": 272, "liquid": 75, "solution": 378}


@functools.cache
def load(name):
    # Unpacked first: ASE seeks back at every frame, and LZMA seeks from the start.
    with lzma.open(embedded_path(name), "rt", encoding="utf-8") as file:
        return read(io.StringIO(file.read()), ":", format="extxyz")


@pytest.fixture(params=EMBEDDED)
def named(request):
    return request.param, load(request.param)


@pytest.fixture
def molecules():
    return load("molecules")


@pytest.fixture
def alloys():
    return load("alloys")


def config_types(structures):
    return collections.Counter(a.info["config_type"] for a in structures)


def force_rms(structures):
    return np.sqrt(np.mean(np.concatenate([a.get_forces() for a in structures]) ** 2))


def elements(structures):
    return {symbol for a in structures for symbol in a.symbols}


def say(pattern):
    """Whether the docstring has `pattern`, whatever its line breaks."""
    return " ".join(pattern.split()) in " ".join(embedded.__doc__.split())


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"Received: 'qm9'.*`alloys`, `molecules`"):
        embedded_path("qm9")


def test_files_are_small():
    sizes = [embedded_path(name).stat().st_size for name in EMBEDDED]
    assert sum(sizes) < 3e6
    assert max(sizes) < 1.5e6


def test_plain_ase_reads_the_compressed_file(named):
    name, structures = named
    for atoms, expected in zip(
        read(embedded_path(name), ":3"), structures[:3], strict=True
    ):
        assert atoms == expected
        assert atoms.info == expected.info
        assert atoms.get_potential_energy() == expected.get_potential_energy()


def test_labels_are_finite_and_bounded(named):
    name, structures = named
    for atoms in structures:
        results = atoms.calc.results
        periodic = name == "alloys"
        assert set(results) == {"energy", "forces"} | (
            {"stress"} if periodic else set()
        )
        assert all(np.isfinite(value).all() for value in results.values())
        assert np.linalg.norm(results["forces"], axis=1).max() < 25
        assert (atoms.pbc == periodic).all()
        assert (atoms.cell.rank == 3) == periodic
        assert "config_type" in atoms.info


def test_no_net_force(named):
    _, structures = named
    for atoms in structures:
        # Rounding errors are independent: they add up as a random walk.
        allowed = 6 * FORCE * np.sqrt(len(atoms))
        np.testing.assert_allclose(atoms.get_forces().sum(axis=0), 0, atol=allowed)


def test_no_two_structures_are_identical(named):
    _, structures = named
    seen = {
        (a.symbols.formula.format(), a.positions.tobytes(), a.cell.array.tobytes())
        for a in structures
    }
    assert len(seen) == len(structures)


def test_writing_again_gives_the_same_file(named):
    name, structures = named
    with lzma.open(embedded_path(name), "rt", encoding="utf-8") as file:
        assert generate.to_text(structures) == file.read()


def test_a_prefix_is_a_random_subset(named):
    _, structures = named
    sizes = np.array([len(a) for a in structures])
    half = len(sizes) // 2
    error = sizes.std() * np.sqrt(4 / len(sizes))
    assert abs(sizes[:half].mean() - sizes[half:].mean()) < 4 * error


def test_molecules_are_as_described(molecules):
    types = config_types(molecules)
    assert types == MOLECULES
    for kind, count in types.items():
        assert say(f"{count} `{kind}`")
    assert say(f"{len(molecules)} structures")
    sizes = np.array([len(a) for a in molecules])
    assert sizes.min() == 1
    assert sizes.max() >= 90
    assert 20 < sizes.mean() < 26
    assert 0.45 < np.mean(sizes <= 15) < 0.65
    assert elements(molecules) == set(ELEMENTS)
    assert say(f"Elements {', '.join(ELEMENTS)}.")
    assert say(f"1 to {sizes.max()} atoms, on average {sizes.mean():.1f}.")
    assert say(f"RMS {force_rms(molecules):.2f} eV/Å")
    singles = [a.info["name"] for a in molecules if a.info["config_type"] == "molecule"]
    assert set(collections.Counter(singles).values()) == {15}
    assert len(set(singles)) == 48
    members = [
        sum(int(part.split()[0]) for part in a.info["name"].split(" + "))
        for a in molecules
        if a.info["config_type"] == "cluster"
    ]
    assert (min(members), max(members)) == (2, 24)


def test_isolated_atoms_of_every_element(molecules):
    alone = [a for a in molecules if a.info["config_type"] == "isolated_atom"]
    assert sorted(str(a.symbols) for a in alone) == sorted(elements(molecules))
    assert all(len(a) == 1 and not a.get_forces().any() for a in alone)
    for atoms in alone:
        assert atoms.info["name"] == f"{atoms.symbols} atom"


def test_molecules_are_bound(molecules):
    """Every structure lies below its isolated atoms."""
    alone = {
        str(a.symbols): a.get_potential_energy()
        for a in molecules
        if a.info["config_type"] == "isolated_atom"
    }
    for atoms in molecules:
        if len(atoms) > 1:
            apart = sum(alone[symbol] for symbol in atoms.symbols)
            assert atoms.get_potential_energy() < apart


def test_alloys_are_as_described(alloys):
    types = config_types(alloys)
    assert types == ALLOYS
    for kind, count in types.items():
        assert say(f"{count} `{kind}`")
    assert say(f"{len(alloys)} structures")
    sizes = np.array([len(a) for a in alloys])
    assert 30 < sizes.mean() < 42
    for (low, high), count in zip(SIZE_CLASSES, (500, 180, 120), strict=True):
        members = [a for a in alloys if low <= len(a) <= high]
        assert len(members) == count
        assert elements(members) == {"Cu", "Ag", "Au", "Ni", "Pd", "Pt"}
    assert sizes.min() == 1
    assert np.sum(sizes == 256) >= 6
    assert say(f"on average {sizes.mean():.1f}.")
    assert say(f"RMS {force_rms(alloys):.2f} eV/Å")
    assert max(np.linalg.norm(a.get_forces(), axis=1).max() for a in alloys) < 20
    assert max(abs(a.get_potential_energy()) / len(a) for a in alloys) < 1


def test_alloys_have_one_volume_law(alloys):
    """Vegard's lattice constant, strained by 0.94 to 1.06."""
    for atoms in alloys:
        vegard = np.mean([generate_alloys._LATTICE[s] for s in atoms.symbols])
        strain = (4 * atoms.get_volume() / len(atoms)) ** (1 / 3) / vegard
        assert 0.9399 < strain < 1.0601


def test_lattice_constants_have_no_pressure():
    for symbol, constant in generate_alloys._LATTICE.items():
        atoms = bulk(symbol, "fcc", a=constant)
        atoms.calc = EMT()
        assert abs(atoms.get_stress()[:3]).max() < 5e-5


def test_solid_copper_to_start_dynamics_from(alloys):
    pure = collections.Counter(str(a.symbols) for a in alloys)
    assert pure["Cu32"] >= 6
    assert pure["Cu108"] >= 9


def test_disordered_cells_have_lost_their_lattice(alloys):
    """No plane wave keeps the phase of the atoms, as it does in a crystal."""
    for atoms in alloys:
        if len(atoms) >= 90:
            disordered = atoms.info["config_type"] in ("liquid", "amorphous")
            assert (bragg_peak(atoms) < 0.6) == disordered


def bragg_peak(atoms):
    """The largest |mean of exp(i q r)| over the cell's wave vectors q."""
    waves = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3), axis=-1).reshape(-1, 3)
    waves = waves[len(waves) // 2 + 1 :]
    lengths = np.linalg.norm(waves @ atoms.cell.reciprocal().array, axis=1)
    waves = waves[lengths < 0.65]
    phases = atoms.get_scaled_positions(wrap=False) @ waves.T
    return np.abs(np.exp(2j * np.pi * phases).mean(axis=0)).max()


def test_emt_gives_the_labels_of_alloys(alloys):
    for atoms in alloys[::20]:
        expected = atoms.copy()
        expected.calc = EMT()
        assert_labels_equal(atoms, expected)


def test_emt_of_a_small_cell_is_that_of_its_double(alloys):
    small = min(alloys, key=len)
    for repeat in ((2, 1, 1), (3, 3, 3)):
        double = small.repeat(repeat)
        double.calc = EMT()
        count = np.prod(repeat)
        energy = double.get_potential_energy()
        assert energy == pytest.approx(
            count * small.get_potential_energy(), abs=count * ENERGY
        )
        np.testing.assert_allclose(
            double.get_stress(), small.get_stress(), atol=1.01 * STRESS
        )


def test_tblite_gives_the_labels_of_molecules(molecules):
    pytest.importorskip("tblite.ase")
    small = [a for a in molecules if len(a) <= 40]
    alone = [a for a in small if a.info["config_type"] == "isolated_atom"]
    for atoms in [*small[::60], *alone]:
        expected = atoms.copy()
        expected.calc = generate.generate_molecules.calculator(atoms)
        assert_labels_equal(atoms, expected)


def assert_labels_equal(atoms, expected):
    expected.calc.calculate(expected, ["energy", "forces"], all_changes)
    results = expected.calc.results
    stored = atoms.calc.results
    # Twice the rounding: other processors may differ in the digit after it.
    assert stored["energy"] == pytest.approx(results["energy"], abs=2 * ENERGY)
    np.testing.assert_allclose(stored["forces"], results["forces"], atol=2 * FORCE)
    if "stress" in stored:
        np.testing.assert_allclose(stored["stress"], results["stress"], atol=2 * STRESS)
