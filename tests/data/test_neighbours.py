import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from tfpes.data.neighbours import MINIMUM_DISTANCE, neighbour_list


def edges_of(atoms, cutoff):
    return neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)


def check(atoms, cutoff):
    """Compare with ASE, and edges with their definition."""
    i, j, shift = primitive_neighbor_list(
        "ijS", atoms.pbc, atoms.cell, atoms.positions, cutoff
    )
    expected = sorted(zip(i.tolist(), j.tolist(), shift.tolist(), strict=True))
    pairs, edge_shift = edges_of(atoms, cutoff)
    assert pairs.shape == (len(i), 2)
    assert edge_shift.shape == (len(i), 3)
    edges = zip(*pairs.T.tolist(), edge_shift.tolist(), strict=True)
    assert sorted(edges) == expected
    assert (np.diff(pairs[:, 0].astype(int)) >= 0).all()
    cell = atoms.cell.array * atoms.pbc[:, None]
    vectors = (
        atoms.positions[pairs[:, 1]] + edge_shift @ cell - atoms.positions[pairs[:, 0]]
    )
    assert (np.linalg.norm(vectors, axis=1) < cutoff).all()
    return len(pairs)


@pytest.mark.parametrize("number", range(15))
@pytest.mark.parametrize("cutoff", [3.0, 6.0])
def test_all_kinds_of_structures(frames, number, cutoff):
    check(frames[number], cutoff)


def test_cell_of_one_atom_has_its_images_for_neighbours():
    # An fcc crystal: 12 neighbours at a/√2, 6 at a.
    assert check(bulk("Cu", a=3.6), 3.0) == 12
    assert check(bulk("Cu", a=3.6), 3.7) == 18


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.floats(0.0, 0.8),
)
def test_skewed_cells_and_atoms_outside(seed, count, pbc, skew):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2.0, 6.0, 3)) + skew * np.tril(rng.normal(size=(3, 3)))
    if abs(np.linalg.det(cell)) < 5.0:
        cell += 4.0 * np.eye(3)
    positions = rng.uniform(-1.5, 2.5, (count, 3)) @ cell
    atoms = Atoms(f"H{count}", positions, cell=cell, pbc=pbc)
    distance = primitive_neighbor_list("d", pbc, cell, positions, 4.3)
    # Random atoms may be on top of each other.
    if distance.min(initial=1.0) < MINIMUM_DISTANCE:
        with pytest.raises(ValueError, match=r"at least 0\.1 Å apart"):
            edges_of(atoms, 4.3)
    else:
        check(atoms, 4.3)


def test_lattice_vectors_that_are_not_periodic_do_not_matter():
    atoms = Atoms("CO", [[0, 0, 0], [0, 1.1, 0]], cell=[3, 3, 3])
    pairs, edge_shift = edges_of(atoms, 4.0)
    assert pairs.tolist() == [[0, 1], [1, 0]]
    assert not edge_shift.any()


def test_atom_alone_has_no_edges():
    pairs, edge_shift = edges_of(Atoms("H"), 5.0)
    assert pairs.shape == (0, 2)
    assert edge_shift.shape == (0, 3)


@pytest.mark.parametrize("part", ["positions", "cell"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_and_cell_are_finite(part, value):
    atoms = bulk("Cu")
    (atoms.positions if part == "positions" else atoms.cell)[0, 1] = value
    with pytest.raises(ValueError, match="Positions and cell must be finite"):
        edges_of(atoms, 4.0)


@pytest.mark.parametrize(
    ("positions", "cell", "message"),
    [
        ([[0, 0, 0], [2, 0, 0], [2, 0, 0.05]], None,
         r"at least 0\.1 Å apart\. Received: atoms \d and \d at a distance of 0\.05 Å"),
        # On top of an image.
        ([[0, 0, 0], [3.98, 0, 0]], [4, 4, 4], r"distance of 0\.02 Å"),
        ([[0, 0, 0], [1, 0, 0]], [4, 4, 0], "direction needs a lattice vector"),
    ],
)  # fmt: skip
def test_geometries_that_make_no_sense(positions, cell, message):
    atoms = Atoms(f"H{len(positions)}", positions, cell=cell, pbc=cell is not None)
    with pytest.raises(ValueError, match=message):
        edges_of(atoms, 3.0)


def test_lattice_vectors_in_one_plane():
    cell = [[4, 0, 0], [0, 4, 0], [4, 4, 0]]
    atoms = Atoms("H", cell=cell, pbc=True)
    with pytest.raises(ValueError, match="must span a volume"):
        edges_of(atoms, 4.0)
    # One that is not periodic does not count.
    atoms.pbc = [True, True, False]
    assert len(edges_of(atoms, 4.5)[0]) == 4


@pytest.mark.parametrize(
    ("far", "cutoff", "cell", "pbc", "message"),
    [
        # vesin ends the process, or never ends.
        ([1e6, 0, 0], 5, None, False, "boxes"),
        ([1e4, 1e4, 0], 5, None, False, "boxes"),
        ([1, 0, 0], 5, [1e7, 1e7, 3], True, "boxes"),
        ([3e4, 0, 0], 5, [0, 0, 3], [False, False, True], "slab or a wire"),
        ([1, 0, 0], 5, [0.01] * 3, True, "periodic images"),
        ([1, 0, 0], 5, [1e-5, 10, 10], True, "periodic images"),
        ([1, 0, 0], 1e9, [3, 3, 3], True, "periodic images"),
        ([1, 0, 0], 1e200, [3, 3, 3], True, "periodic images"),
        ([1, 0, 0], 1e3, [0, 0, 3], [False, False, True], "periodic images"),
    ],
)
def test_bounds(far, cutoff, cell, pbc, message):
    atoms = Atoms("H2", [[0, 0, 0], far], cell=cell, pbc=pbc)
    with pytest.raises(ValueError, match=rf"at most.*{message}|{message}.*at most"):
        edges_of(atoms, cutoff)


def test_too_many_neighbours():
    atoms = bulk("Cu", cubic=True) * 5
    with pytest.raises(ValueError, match="1e\\+08 pairs of neighbours"):
        edges_of(atoms, 90.0)


@pytest.mark.parametrize("cutoff", [1e3, 1e9, 1e300])
def test_a_cutoff_longer_than_any_molecule(cutoff):
    atoms = molecule("C6H6")
    assert len(edges_of(atoms, cutoff)[0]) == 12 * 11
