import dataclasses

import numpy as np
import pytest

from tfpes.data import read


def same(left, right):
    for field in dataclasses.fields(left):
        a, b = getattr(left, field.name), getattr(right, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name, strict=True)


@pytest.mark.parametrize(
    "index",
    [
        slice(3, 9),
        slice(None, None, -2),
        slice(0, 1),
        [4, 1, 1, 7],
        np.array([2, -1]),
        np.arange(15) % 3 == 0,
        5,
        -1,
    ],
    ids=str,
)
def test_selection_is_what_is_read_from_the_selected(structures, frames, index):
    picked = np.atleast_1d(np.arange(len(frames))[index])
    subset = read([frames[i] for i in picked], structures.cutoff, verbose=False)
    # Labels of a part may be missing altogether: read those without as well.
    same(structures[index], subset)


def test_selection_of_nothing(structures):
    empty = structures[:0]
    assert len(empty) == 0
    assert empty.edge_index.shape == (2, 0)
    assert len(structures[np.zeros(len(structures), bool)]) == 0


@pytest.mark.parametrize("index", [15, -16, [0, 15]])
def test_index_out_of_range(structures, index):
    with pytest.raises(IndexError, match="out of bounds"):
        structures[index]


def test_iteration(structures):
    energies = [part.energy.item() for part in structures]
    assert energies == structures.energy.tolist()


def test_counts_and_elements(structures, frames):
    sizes = [len(atoms) for atoms in frames]
    assert structures.num_atoms.tolist() == structures.sizes[:, 0].tolist() == sizes
    assert structures.num_edges.tolist() == structures.sizes[:, 1].tolist()
    assert structures.num_edges.sum() == structures.edge_index.shape[1]
    expected = [i for i, size in enumerate(sizes) for _ in range(size)]
    assert structures.structure_index.tolist() == expected
    expected = sorted({int(z) for atoms in frames for z in atoms.numbers})
    assert structures.elements.tolist() == expected


def test_isolated_atoms(structures, frames):
    # Two atoms far from each other are not one atom; nor is a cell of one atom.
    expected = [len(a) == 1 and not a.pbc.any() for a in frames]
    assert sum(expected) == 2
    assert structures.isolated_atoms.tolist() == expected


def test_isolated_atoms_are_in_no_batch(structures):
    bound = structures[~structures.isolated_atoms]

    def energies(dataset):
        packed = [targets["energy"][:, 0] for _, targets in dataset]
        return sorted(e for part in packed for e in part.numpy() if np.isfinite(e))

    assert energies(structures.batches(4)) == sorted(bound.energy)
    assert structures.padding(4) == bound.padding(4)
    everything = structures.batches(4, isolated_atoms="include")
    assert energies(everything) == sorted(structures.energy)
    with pytest.raises(ValueError, match=r"nothing but 2 of them, within 4 Å"):
        structures[structures.isolated_atoms].batches(4)
    with pytest.raises(ValueError, match=r"'exclude' or 'include'. Received: 'drop'"):
        structures.batches(4, isolated_atoms="drop")


def test_repr(structures):
    atoms, edges = len(structures.positions), structures.edge_index.shape[1]
    expected = f"{atoms} atoms, {edges} edges within 4 Å>"
    kind = "(2 isolated atoms), "
    assert repr(structures) == f"<Structures: 15 structures {kind}{expected}"
    assert "isolated" not in repr(structures[:5])


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ((0.8, 0.1, 0.1), (12, 2, 1)),
        ((1 / 3, 1 / 3, 1 / 3), (5, 5, 5)),
        ((0.2,), (3,)),
        ((1,), (15,)),
        ([0.5, 0.2], (8, 2)),
    ],
)
def test_split(structures, fractions, sizes):
    parts = structures.split(fractions, seed=3)
    assert tuple(len(part) for part in parts) == sizes
    energies = np.concatenate([part.energy for part in parts])
    assert len(set(energies)) == sum(sizes)
    assert set(energies) <= set(structures.energy)


def test_split_is_seeded_and_keeps_the_order_within_a_part(structures):
    first, second = (structures.split((0.5, 0.5), seed=1) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        same(a, b)
        order = [structures.energy.tolist().index(e) for e in a.energy]
        assert order == sorted(order)
    other = structures.split((0.5, 0.5), seed=2)[0]
    assert set(other.energy) != set(first[0].energy)


@pytest.mark.parametrize("fractions", [(), (0.5, -0.1), (0.5, 0.0), 0.5, (np.nan,)])
def test_split_fractions_are_positive(structures, fractions):
    with pytest.raises(ValueError, match="`fractions` must be positive numbers"):
        structures.split(fractions)


def test_split_fractions_sum_to_one(structures):
    with pytest.raises(ValueError, match=r"at most 1.*which sum to 1.1"):
        structures.split((0.9, 0.2))


def test_small_parts_of_a_split_get_one_structure(structures):
    parts = structures[:3].split((0.98, 0.01, 0.01))
    assert [len(part) for part in parts] == [1, 1, 1]
    assert len({part.energy.item() for part in parts}) == 3


@pytest.mark.parametrize(("count", "fractions"), [(1, (0.9, 0.1)), (3, (0.25,) * 4)])
def test_split_of_too_few(structures, count, fractions):
    with pytest.raises(
        ValueError, match=f"at least one structure. Received: {count} structures"
    ):
        structures[:count].split(fractions)


@pytest.mark.parametrize("seed", range(5))
def test_split_that_covers_elements(structures, seed):
    parts = structures.split((0.5, 0.3, 0.2), seed=seed, cover_elements=True)
    train = set(parts[0].elements)
    assert all(train >= set(part.elements) for part in parts)
    energies = np.concatenate([part.energy for part in parts])
    assert sorted(energies) == sorted(structures.energy)
    # Only structures with elements that the first part lacks are moved.
    plain = structures.split((0.5, 0.3, 0.2), seed=seed)
    assert set(plain[0].energy) <= set(parts[0].energy)
    lacking = set(structures.elements) - set(plain[0].elements)
    for energy in set(parts[0].energy) - set(plain[0].energy):
        (number,) = np.flatnonzero(structures.energy == energy)
        assert lacking & set(structures[number].elements)


def test_split_that_cannot_cover_elements(structures):
    # Every structure of these two has an element of its own.
    with pytest.raises(ValueError, match=r"leaves parts of \[2, 0\]"):
        structures[[0, 7]].split((0.5, 0.5), cover_elements=True)
