"""Labels under whatever name a file has them: taken and said, or refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tfpes.data import read

FORCES = np.array([[0.5, 0, 0], [-0.5, 0, 0]])


def dimer(forces=None, **info):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info=info)
    for name, value in (forces or {}).items():
        atoms.arrays[name] = value
    return atoms


def copper(**info):
    atoms = bulk("Cu", cubic=True)
    atoms.info.update({"energy": -1.0, **info})
    return atoms


def quiet(*frames, **keys):
    return read(frames, 4.0, verbose=False, **keys)


@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        ("REF_energy", "REF_forces"),
        ("dft_energy", "dft_forces"),
        ("Energy", "force"),
        ("energy_dft", "DFT_Force"),
        ("total_energy", "vasp_forces"),
    ],
)
def test_usual_names_are_taken_and_said(energy, forces, capsys):
    frames = [dimer({forces: FORCES}, **{energy: -31.5}), dimer(**{energy: -30.0})]
    data = read(frames, 4.0)
    assert data.energy.tolist() == [-31.5, -30.0]
    np.testing.assert_array_equal(data.forces[:2], FORCES)
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        f"Labels of 2 structures: energy ({energy}) of 2, forces ({forces}) of 1, no "
        "virial."
    )


@pytest.mark.parametrize(
    "name", ["free_energy", "energy_per_atom", "formation_energy", "mace_energy"]
)
def test_other_energies_are_not_taken(name):
    with pytest.raises(ValueError, match=f"names found: {name}"):
        quiet(dimer(**{name: -1.0}))


def test_arrays_of_another_shape_are_not_taken():
    # A potential of bonds, not a label; and one energy for each atom.
    data = quiet(dimer({"ref_energy": np.zeros(2)}, energy=-1.0, force=3.0))
    assert np.isnan(data.forces).all()
    assert data.energy.tolist() == [-1.0]


def test_the_exact_name_goes_before():
    frames = dimer({"forces": FORCES, "REF_forces": 2 * FORCES}, energy=1.0)
    np.testing.assert_array_equal(quiet(frames).forces, FORCES)
    both = quiet(frames, forces_key="REF_forces")
    np.testing.assert_array_equal(both.forces, 2 * FORCES)


@pytest.mark.parametrize("kind", ["energy", "forces", "stress", "virial"])
def test_a_given_name_that_no_structure_has(kind):
    frames = dimer({"REF_forces": FORCES}, REF_energy=-1.0)
    match = (
        rf"`{kind}_key` \(`--{kind}-key`\).*Received: 'REF_nothing', under which none "
        "of 1 structures.*names found: REF_energy, REF_forces"
    )
    with pytest.raises(ValueError, match=match):
        quiet(frames, **{f"{kind}_key": "REF_nothing"})


def test_two_that_could_be_meant():
    frames = dimer({"REF_forces": FORCES, "dft_forces": FORCES}, energy=-1.0)
    with pytest.raises(ValueError, match=r"several could be.*REF_forces, dft_forces"):
        quiet(frames)
    assert np.isfinite(quiet(frames, forces_key="dft_forces").forces).all()
    assert np.isnan(quiet(frames, forces_key=None).forces).all()


# -- virials ------------------------------------------------------------------------

VIRIAL = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])


@pytest.mark.parametrize("name", ["virial", "REF_virial", "virials"])
@pytest.mark.parametrize("form", ["3x3", "nine", "voigt"])
def test_a_virial_is_not_multiplied_by_the_volume(name, form):
    forms = {"3x3": VIRIAL, "nine": VIRIAL.ravel(), "voigt": [1, 2, 3, 0.3, 0.2, 0.1]}
    data = quiet(copper(**{name: forms[form]}))
    np.testing.assert_array_equal(data.virial[0], VIRIAL)
    assert np.isnan(quiet(copper(virial=VIRIAL), virial_key=None).virial).all()


@pytest.mark.parametrize("name", ["virial", "REF_virial"])
def test_a_virial_is_no_stress(name):
    with pytest.raises(ValueError, match=f"'{name}', the name of a virial.*virial_key"):
        quiet(copper(virial=VIRIAL), stress_key=name)


def test_virial_and_stress_must_agree():
    volume = bulk("Cu", cubic=True).get_volume()
    data = quiet(copper(virial=VIRIAL, stress=-VIRIAL / volume), copper(energy=1.0))
    np.testing.assert_array_equal(data.virial[0], VIRIAL)
    wrong = copper(virial=VIRIAL, stress=VIRIAL / volume)
    with pytest.raises(
        ValueError, match=r"minus volume times.*structure 0 with 1 and -1"
    ):
        quiet(wrong)
    np.testing.assert_allclose(quiet(wrong, virial_key=None).virial[0], -VIRIAL)


# -- values that are none -----------------------------------------------------------


def test_a_force_that_float32_does_not_hold():
    with pytest.raises(ValueError, match="structure 0 with an infinite forces"):
        quiet(dimer({"forces": FORCES * 1e39}, energy=-1.0))


@pytest.mark.parametrize("value", [True, {"eV": -1.0}, 1 + 2j, "-1.0", [[1.0], [2, 3]]])
def test_labels_are_numbers(value):
    with pytest.raises(ValueError, match=r"must be numbers.*structure 0 with energy"):
        quiet(dimer(energy=value))
