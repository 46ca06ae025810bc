"""The edges are those of a fresh list, and the list is made anew only when it must."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.data.verlet_list import VerletList

CUTOFF = 3.2


def structure(kind):
    wire = Atoms("CO", [[0, 0, 0], [0, 0.3, 1.2]], cell=[0, 0, 2.5], pbc=[0, 0, 1])
    return {
        "crystal": bulk("Cu", cubic=True),
        "primitive": bulk("Cu"),
        "slab": fcc100("Al", (1, 2, 2), vacuum=4.0),
        "molecule": molecule("CH3CH2OH"),
        "wire": wire,
        "atom": Atoms("H"),
    }[kind]


def edges(pairs, shift):
    return sorted(map(tuple, np.hstack([pairs, shift]).astype(int).tolist()))


def expected_edges(atoms):
    i, j, shift = neighbor_list("ijS", atoms, CUTOFF)
    return edges(np.stack([i, j], axis=1).reshape(-1, 2), shift.reshape(-1, 3))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["crystal", "primitive", "slab", "molecule", "wire", "atom"]),
    skin=st.sampled_from([0.0, 0.1, 0.4, 1.5]),
    step=st.sampled_from([1e-3, 0.02, 0.1]),
    strain=st.sampled_from([0.0, 1e-3, 0.02]),
    seed=st.integers(0, 2**16),
)
def test_edges_are_those_of_a_fresh_list(kind, skin, step, strain, seed):
    rng = np.random.default_rng(seed)
    atoms = structure(kind)
    neighbours = VerletList(CUTOFF, skin)
    for number in range(8):
        assert edges(*neighbours.edges(atoms)) == expected_edges(atoms)
        change = np.eye(3) + strain * rng.normal(size=(3, 3))
        if number == 5:
            # A rotation and a translation of the whole move atoms far.
            change = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            atoms.positions += 10.0
        atoms.set_cell(atoms.cell.array @ change)
        atoms.positions = atoms.positions @ change
        atoms.positions += step * rng.normal(size=(len(atoms), 3))


def test_when_the_list_is_made():
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    neighbours = VerletList(CUTOFF, 0.5)

    def builds():
        neighbours.edges(atoms)
        return neighbours.builds

    assert builds() == builds() == 1
    atoms.positions[3, 0] += 0.249
    assert builds() == 1
    atoms.positions += [5.0, 0.0, 1.0]  # a common translation
    assert builds() == 1
    atoms.positions[3, 0] += 0.02  # 0.269 less the mean of all
    assert builds() == 2
    atoms.numbers[0] = 79
    assert builds() == 2
    atoms.set_cell(atoms.cell * 0.95, scale_atoms=True)
    assert builds() == 2  # 5 % of 3.7 Å is less than 0.5 Å
    atoms.set_cell(atoms.cell * 0.9, scale_atoms=True)
    assert builds() == 3
    atoms.pbc = [True, True, False]
    assert builds() == 4
    atoms.wrap()
    assert builds() == 5  # the translation has carried atoms out of the cell
    del atoms[0]
    assert builds() == 6


def test_without_a_skin_every_change_counts():
    atoms = bulk("Cu", cubic=True)
    neighbours = VerletList(CUTOFF, 0.0)
    for _ in range(3):
        neighbours.edges(atoms)
        atoms.positions[0, 0] += 1e-6
    assert neighbours.builds == 3


def test_atoms_that_meet_within_the_skin():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.3]])
    neighbours = VerletList(CUTOFF, 0.5)
    neighbours.edges(atoms)
    atoms.positions[1, 2] = 0.09
    for _ in range(2):
        with pytest.raises(ValueError, match=r"at least 0\.1 Å apart"):
            neighbours.edges(atoms)
    atoms.positions[1, 2] = 0.7
    assert len(neighbours.edges(atoms)[0]) == 2


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("positions", np.nan, "must be finite"),
        ("positions", np.inf, "must be finite"),
        ("cell", np.nan, "must be finite"),
        ("cell", np.inf, "must be finite"),
        ("cell", 0.0, "needs a lattice vector"),
    ],
)
def test_geometry_that_breaks(part, value, message):
    atoms = bulk("Cu", cubic=True)
    neighbours = VerletList(CUTOFF, 0.5)
    neighbours.edges(atoms)
    (atoms.positions if part == "positions" else atoms.cell)[0] = value
    with pytest.raises(ValueError, match=message):
        neighbours.edges(atoms)
