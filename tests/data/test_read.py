from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from tfpes.data import load, read, read_or_load

# More digits than float32 holds, and more than most writers write.
ENERGY = -123456.78901234567
XYZ = f"""\
2
energy={ENERGY!r} config_type=pair pbc="F F F"
H 0.0 0.0 0.0 0.5 -0.5 0.25
H 0.0 0.0 0.75 -0.5 0.5 -0.25
1
energy=-13.0 pbc="F F F"
O 1.0 2.0 3.0 0.0 0.0 0.0
"""
XYZ = XYZ.replace("energy", "Properties=species:S:1:pos:R:3:forces:R:3 energy")


def read_quietly(*args, cutoff=4.0, **options):
    return read(*args, cutoff, verbose=False, **options)


def hydrogen(**info):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])
    atoms.info.update(info)
    return atoms


def periodic(**info):
    atoms = bulk("Cu", cubic=True)
    atoms.info.update(energy=-1.0, **info)
    return atoms


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "two.xyz"
    path.write_text(XYZ)
    return path


def test_columns(path):
    data = read_quietly(path)
    assert data.energy.tolist() == [ENERGY, -13.0]
    assert data.energy.dtype == np.float64
    assert data.atomic_numbers.tolist() == [1, 1, 8]
    assert data.forces[:2].tolist() == [[0.5, -0.5, 0.25], [-0.5, 0.5, -0.25]]
    assert data.atom_offsets.tolist() == [0, 2, 3]
    assert data.edge_offsets.tolist() == [0, 2, 2]
    assert data.edge_index.tolist() == [[0, 1], [1, 0]]
    assert data.config_type.tolist() == ["pair", ""]
    assert data.cutoff == 4.0
    assert not data.cell.any()
    assert np.isnan(data.virial).all()
    expected = {
        "positions": "float32", "cell": "float32", "forces": "float32",
        "atomic_numbers": "int32", "edge_index": "int32", "edge_shift": "int16",
        "energy": "float64", "virial": "float64",
    }  # fmt: skip
    assert {name: getattr(data, name).dtype.name for name in expected} == expected


def test_all_structures_in_their_order(frames, structures):
    assert len(structures) == len(frames)
    for number, atoms in enumerate(frames):
        part = structures[number]
        assert part.energy[0] == atoms.calc.results["energy"]
        np.testing.assert_array_equal(part.atomic_numbers, atoms.numbers)
        forces = atoms.calc.results["forces"].astype(np.float32)
        np.testing.assert_array_equal(part.forces, forces)
        centred = atoms.positions - atoms.positions.mean(axis=0)
        np.testing.assert_array_equal(part.positions, centred.astype(np.float32))
        cell = atoms.cell.array * atoms.pbc[:, None]
        np.testing.assert_array_equal(part.cell[0], cell.astype(np.float32))


def test_far_from_the_origin():
    near, far = molecule("H2O"), molecule("H2O")
    far.positions += 1e6
    both = read_quietly([near, far], energy_key=None)
    np.testing.assert_allclose(both.positions[:3], both.positions[3:], atol=1e-6)


def test_atoms_that_left_their_cell_far_behind():
    near = bulk("Cu", cubic=True) * (2, 1, 1)
    near.rattle(0.1, seed=0)
    far = near.copy()
    far.positions[[1, 6]] += [[20_000, 0, 0], [0, -70_000, 3]] @ near.cell.array
    one, other = (read_quietly([a], energy_key=None) for a in (near, far))

    def edges(data):
        i, j = data.edge_index
        vectors = data.edge_shift @ np.float64(data.cell[0])
        vectors += np.float64(data.positions)[j] - data.positions[i]
        lengths = np.linalg.norm(vectors, axis=1)
        order = np.lexsort((lengths, j, i))
        return np.stack([i, j])[:, order], lengths[order]

    assert abs(other.positions).max() < 20
    for found, expected in zip(edges(other), edges(one), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_path_string_paths_and_atoms(path, frames):
    once = read_quietly(str(path))
    twice = read_quietly([path, str(path)])
    assert twice.energy.tolist() == once.energy.tolist() * 2
    assert read_quietly([*frames[:2], path]).num_atoms.tolist() == [3, 5, 2, 1]
    assert len(read_quietly(atoms for atoms in frames[:3])) == 3


def test_file_that_ase_writes(tmp_path, frames):
    path = tmp_path / "written.traj"
    write(path, frames)
    data = read_quietly(path)
    assert data.energy.tolist() == [a.calc.results["energy"] for a in frames]


@pytest.mark.parametrize("place", ["results", "info", "arrays"])
def test_places_of_labels(place, labelled):
    forces = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    atoms = hydrogen(energy=-31.5)
    if place == "arrays":
        atoms.arrays["forces"] = forces
    elif place == "info":
        atoms.info["forces"] = forces
    else:
        atoms = labelled(atoms, energy=-31.5, forces=forces)
        atoms.info["energy"] = 99.0  # the calculator comes first
    data = read_quietly([atoms])
    assert data.energy.tolist() == [-31.5]
    np.testing.assert_array_equal(data.forces, forces)


def test_names_of_labels():
    atoms = periodic(dft_energy=-5.5, dft_stress=np.eye(3), energy_of_others=1.0)
    atoms.arrays["dft_forces"] = np.ones((4, 3))
    data = read_quietly(
        [atoms],
        energy_key="dft_energy",
        forces_key="dft_forces",
        stress_key="dft_stress",
    )
    assert data.energy.tolist() == [-5.5]
    assert (data.forces == 1).all()
    np.testing.assert_allclose(
        data.virial[0], -atoms.get_volume() * np.eye(3), rtol=1e-14
    )


def test_names_that_are_none(frames):
    data = read_quietly(frames[:3], energy_key=None, forces_key=None, stress_key=None)
    assert np.isnan(data.energy).all()
    assert np.isnan(data.forces).all()
    assert np.isnan(data.virial).all()


def test_missing_labels_are_nan(labelled):
    forces = np.array([[0.0, np.nan, 1.0], [np.nan, np.nan, np.nan]])
    frames = [
        hydrogen(),
        hydrogen(energy=np.array([np.nan])),  # of shape (1,)
        labelled(hydrogen(energy=-1.0), forces=forces),
    ]
    data = read_quietly(frames)
    np.testing.assert_array_equal(data.energy, [np.nan, np.nan, -1.0])
    assert np.isnan(data.forces[:4]).all()
    np.testing.assert_array_equal(data.forces[4:], forces)


@pytest.mark.parametrize("form", ["voigt", "3x3", "nine"])
def test_virial_is_minus_volume_times_stress(form):
    stress = np.array([[0.1, 0.6, 0.5], [0.6, 0.2, 0.4], [0.5, 0.4, 0.3]])
    value = {
        "voigt": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "3x3": stress,
        "nine": stress.ravel(),
    }[form]
    atoms = periodic(stress=value)
    data = read_quietly([atoms])
    volume = abs(np.linalg.det(atoms.cell.array))
    np.testing.assert_allclose(data.virial[0], -volume * stress, rtol=1e-14)


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_no_virial_without_a_volume(pbc):
    atoms = periodic(stress=np.eye(3))
    atoms.cell[2] = 0
    atoms.pbc = pbc
    assert np.isnan(read_quietly([atoms]).virial).all()


def test_a_slab_with_three_vectors_has_a_volume():
    atoms = periodic(stress=np.eye(3))
    atoms.pbc = [True, True, False]
    found = read_quietly([atoms]).virial[0]
    np.testing.assert_allclose(found, -atoms.get_volume() * np.eye(3), rtol=1e-14)


def test_weights(capsys):
    images = [hydrogen(energy=1.0, config_weight=w, mine=2.0) for w in (0, 3)]
    images.append(hydrogen(energy=1.0))
    assert read(images, 4.0).weight.tolist() == [0, 3, 1]
    assert "Weights (config_weight): 0 to 3." in capsys.readouterr().err
    assert read_quietly(images, weight_key=None).weight.tolist() == [1, 1, 1]
    assert read_quietly(images, weight_key="mine")[1:].weight.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"`weight_key`.*'none', which none has"):
        read_quietly(images, weight_key="none")
    for wrong in (-1.0, np.nan, np.inf, "much", [1.0, 2.0]):
        images[1].info["config_weight"] = wrong
        with pytest.raises(ValueError, match=r"The weight of a structure.*structure 1"):
            read_quietly(images)


def test_sign_of_the_virial():
    # Hydrostatic tension: energy falls as the cell shrinks, the stress is positive.
    atoms = bulk("Cu", a=3.8)
    atoms.calc = EMT()
    atoms.get_potential_energy()
    atoms.get_stress()
    virial = read_quietly([atoms]).virial[0]
    assert (np.diag(virial) < 0).all()


def test_progress_stays_out_of_the_output(path, capsys):
    read(path, 4.0, verbose=True)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("source", ["alloys", ["alloys"]])
def test_a_file_goes_before_an_embedded_set_of_its_name(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = read_or_load(source, 3.0, verbose=False)
    assert (len(data), data.cutoff) == (800, 3.0)
    assert np.isfinite(data.energy).all()
    Path("alloys").write_text(XYZ)
    assert len(read_or_load(source, 3.0, verbose=False)) == 2


def test_an_embedded_set_has_names_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`forces_key` 'REF_f' for 'alloys'"):
        read_or_load("alloys", 3.0, energy_key="energy", forces_key="REF_f")


# -- errors -------------------------------------------------------------------------


def test_load_unknown_name():
    with pytest.raises(ValueError, match=r"embedded data set. Received: 'metals'"):
        load("metals")


@pytest.mark.parametrize("cutoff", [0, -1.0, np.nan, np.inf])
def test_cutoff(path, cutoff):
    with pytest.raises(ValueError, match="`cutoff` must be a positive number"):
        read(path, cutoff)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.quux", "Not structures.\n", r"recognize the format.*notes\.quux"),
        ("cut.xyz", XYZ[: XYZ.rindex("2.0")], r"cut\.xyz', which fails after [01] str"),
        ("empty.xyz", "", r"empty\.xyz', an empty file"),
        (
            "bad.xyz",
            XYZ.replace("=-13.0", "=inf"),
            r"structure 1 of .*bad\.xyz with an",
        ),
    ],
)
def test_bad_file(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_quietly(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"that exists. Received: .*nowhere"):
        read_quietly(tmp_path / "nowhere.xyz")


def test_nothing_at_all():
    with pytest.raises(ValueError, match=r"at least one structure. Received: none"):
        read_quietly([])


def test_single_atoms():
    with pytest.raises(TypeError, match=r"one `Atoms` object. Put it in a list"):
        read_quietly(hydrogen(energy=1.0))


def test_items_of_another_type():
    with pytest.raises(TypeError, match="an item of type dict"):
        read_quietly([hydrogen(energy=1.0), {"positions": []}])


def test_no_energy_lists_the_names_found(labelled):
    atoms = labelled(hydrogen(my_energy=-1.0), free_energy=-1.0)
    atoms.arrays["momenta"] = np.zeros((2, 3))
    with pytest.raises(
        ValueError, match=r"1 structures without.*: free_energy, momenta, my_energy."
    ):
        read_quietly([atoms])


def test_no_energy_and_no_names():
    with pytest.raises(ValueError, match=r"'E', under which none.*names found: none\."):
        read_quietly([hydrogen()], energy_key="E")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("key", ["energy", "forces", "stress"])
def test_infinite_label_names_the_structure(key, value, labelled):
    results = {"energy": 0.0, "forces": np.zeros((4, 3)), "stress": np.zeros(6)}
    good = labelled(bulk("Cu", cubic=True), **results)
    results[key] = np.where(np.arange(np.size(results[key])) == 0, value, 0.0)
    results[key] = results[key].reshape(np.shape(good.calc.results[key]))
    bad = labelled(bulk("Cu", cubic=True), **results)
    with pytest.raises(ValueError, match=f"structure 2 with an infinite {key}"):
        read_quietly([good, good, bad])


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), r"at least one atom\. Received: structure 1"),
        (Atoms("HX", [[0, 0, 0], [0, 0, 1]]), r"structure 1 with Z = \[0, 1\]"),
        (hydrogen(energy="unknown"), "structure 1 with energy = 'unknown'"),
        (Atoms("H2"), r"0\.1 Å apart.* In: structure 1\."),
        (Atoms("H", [[np.nan, 0, 0]]), r"must be finite.* In: structure 1\."),
        (Atoms("H", pbc=True), r"needs a lattice vector.* In: structure 1\."),
    ],
)
def test_bad_structure_is_named(atoms, message):
    with pytest.raises(ValueError, match=message):
        read_quietly([hydrogen(energy=0.0), atoms])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("energy", [1.0, 2.0]),
        ("forces", np.zeros((3, 3))),
        ("forces", np.zeros(12)),
        ("stress", np.zeros(5)),
        ("stress", 1.0),
    ],
)
def test_label_of_wrong_shape(key, value):
    atoms = periodic()
    atoms.info[key] = value
    with pytest.raises(
        ValueError, match=rf"The {key} of a structure of 4 atoms.*in structure 0"
    ):
        read_quietly([atoms])


def test_energies_that_are_all_nan():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.info["energy"] = np.nan
    with pytest.raises(ValueError, match="1 structures whose 'energy' is NaN"):
        read([atoms], 5.0, verbose=False)
