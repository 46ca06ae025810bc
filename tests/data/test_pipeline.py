import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms

from tfpes.data import Padding, read
from tfpes.layers import PESNormalization
from tfpes.models import edge_vectors

SHARED = ("acac_botnet", "mlearn6", "mptrj_random_1k", "nbmotaw_mvl")
LABELS = ("energy", "forces", "virial")


@pytest.fixture(scope="module")
def chains():
    """Return 100 structures of 2 to 8 atoms, with their numbers for energies."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(100):
        count = 2 + int(7 * rng.random() ** 2)
        positions = np.outer(np.arange(count), [1.1, 0, 0])
        frames.append(Atoms(f"H{count}", positions, info={"energy": float(number)}))
    return read(frames, 2.5, verbose=False)


def to_numpy(dataset):
    return list(dataset.as_numpy_iterator())


def energies_of(batches):
    """Return the energies in each batch; missing and padding ones are NaN."""
    columns = [targets["energy"][:, 0] for _, targets in batches]
    return [column[~np.isnan(column)].tolist() for column in columns]


def concatenate(structures, picked, shape):
    """Assemble a batch with a loop over its structures; padding comes last."""
    num_atoms, num_edges, num_structures = shape
    last, cutoff = num_structures - 1, structures.cutoff
    inputs = {
        "positions": np.zeros((num_atoms, 3), np.float32),
        "atomic_numbers": np.zeros(num_atoms, np.int32),
        "structure_index": np.full(num_atoms, last, np.int32),
        "cell": np.tile(2 * cutoff * np.eye(3, dtype=np.float32), (last + 1, 1, 1)),
        "edge_index": np.full((2, num_edges), num_atoms - 1, np.int32),
        "edge_shift": np.ones((num_edges, 3), np.float32),
    }
    energy = np.full(num_structures, np.nan)
    virial = np.full((num_structures, 9), np.nan)
    counts = np.zeros((num_structures, 119))
    forces = np.full((num_atoms, 3), np.nan, np.float32)
    atom = edge = 0
    for row, number in enumerate(picked):
        part = structures[int(number)]
        atoms = slice(atom, atom + len(part.positions))
        edges = slice(edge, edge + part.edge_index.shape[1])
        inputs["positions"][atoms] = part.positions
        inputs["atomic_numbers"][atoms] = part.atomic_numbers
        inputs["structure_index"][atoms] = row
        inputs["cell"][row] = part.cell[0]
        inputs["edge_index"][:, edges] = part.edge_index + atom
        inputs["edge_shift"][edges] = part.edge_shift
        energy[row] = part.energy[0]
        virial[row] = part.virial.ravel()
        forces[atoms] = part.forces
        for z in part.atomic_numbers:
            counts[row, z] += 1
        atom, edge = atoms.stop, edges.stop
    tail = [inputs["atomic_numbers"][:, None], inputs["structure_index"][:, None]]
    low = np.nan_to_num(energy - energy.astype(np.float32))
    targets = {
        "energy": np.hstack([energy[:, None], low[:, None], counts]),
        "virial": np.hstack([virial, counts]),
        "forces": np.hstack([forces, *tail]).astype(np.float32),
    }
    return inputs, targets


def shape_of(inputs):
    return (
        len(inputs["positions"]),
        inputs["edge_index"].shape[1],
        len(inputs["cell"]),
    )


@pytest.mark.parametrize("batch_size", [1, 4, 15, 1000])
@pytest.mark.parametrize("shuffle", [False, True])
def test_content(structures, batch_size, shuffle):
    dataset = structures.batches(
        batch_size, shuffle, seed=0, labels=LABELS, isolated_atoms="include"
    )
    batches = to_numpy(dataset)
    assert len(batches) == int(dataset.cardinality()) == -(-15 // min(batch_size, 15))
    for (inputs, targets), energies in zip(batches, energies_of(batches), strict=True):
        picked = [structures.energy.tolist().index(energy) for energy in energies]
        expected = concatenate(structures, picked, shape_of(inputs))
        for part, reference in zip((inputs, targets), expected, strict=True):
            assert part.keys() == reference.keys()
            for name, array in reference.items():
                np.testing.assert_array_equal(part[name], array, name, strict=True)
    seen = itertools.chain.from_iterable(energies_of(batches))
    assert sorted(seen) == sorted(structures.energy)


def test_padding_edges_are_beyond_the_cutoff(structures):
    for inputs, _ in to_numpy(structures.batches(4)):
        padding = inputs["atomic_numbers"] == 0
        assert padding.any()
        i, j = inputs["edge_index"]
        distance = np.linalg.norm(edge_vectors(inputs), axis=1)
        np.testing.assert_array_equal(distance > structures.cutoff, padding[i])
        np.testing.assert_array_equal(padding[i], padding[j])


@pytest.mark.parametrize("labels", [("virial",), ("energy",), ("forces", "energy"), ()])
def test_labels(structures, labels):
    _, targets = structures.batches(4, labels=labels).element_spec
    assert set(targets) == set(labels)


def test_weights(structures):
    """Of each structure and of its atoms; padding has none."""
    weight = 1.0 + np.arange(len(structures))
    weighted = dataclasses.replace(structures, weight=weight)
    dataset = weighted.batches(4, labels=LABELS)
    for plain, (inputs, targets, weights) in zip(
        structures.batches(4, labels=LABELS), dataset, strict=True
    ):
        assert len(plain) == 2
        assert weights.keys() == targets.keys()
        energy = targets["energy"].numpy()[:, 0]
        for value, found in zip(energy, weights["energy"].numpy(), strict=True):
            same = np.flatnonzero(structures.energy == value)
            assert found in (weight[same] if same.size else [0.0, *weight])
        np.testing.assert_array_equal(weights["virial"], weights["energy"])
        by_atom = weights["energy"].numpy()[inputs["structure_index"].numpy()]
        np.testing.assert_array_equal(weights["forces"], by_atom)


def test_a_weight_of_two_is_the_structure_twice(crystals):
    some = read(crystals, 4.0, verbose=False)
    number = np.arange(len(some))
    weighted = dataclasses.replace(some, weight=1.0 + number % 2)
    twice = some[np.repeat(number, 1 + number % 2)]
    layers = PESNormalization(), PESNormalization()
    for layer, data in zip(layers, (weighted, twice), strict=True):
        layer.adapt(data.batches(8))
    for name, value in layers[0].statistics.items():
        np.testing.assert_allclose(value, layers[1].statistics[name], rtol=1e-9)
    layers[1].adapt(some.batches(8))
    assert (
        layers[0].statistics["energy_mean"][29]
        != (layers[1].statistics["energy_mean"][29])
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_shapes(chains, shuffle):
    dataset = chains.batches(8, shuffle, seed=1)
    assert int(dataset.cardinality()) == len(dataset) == 13
    shapes = set()
    for _ in range(10):
        epoch = {shape_of(inputs) for inputs, _ in to_numpy(dataset)}
        assert len(epoch) <= 4
        shapes |= epoch
    assert len(shapes) <= 4


def test_no_thread_sleeps_beside_an_iterator(structures):
    # The one that tunes is waited for, up to a minute, at the end of an epoch.
    assert structures.batches(4).options().autotune.enabled is False


def test_static_shapes(structures, chains):
    inputs, targets = structures.batches(15).element_spec
    for spec in (*inputs.values(), *targets.values()):
        assert spec.shape.is_fully_defined()
    # The number of structures also where there are several shapes.
    inputs, _ = chains.batches(8, shuffle=True).element_spec
    assert inputs["cell"].shape == (9, 3, 3)


def test_order_is_fixed_without_shuffling(chains):
    dataset = chains.batches(8)
    assert energies_of(to_numpy(dataset)) == energies_of(to_numpy(dataset))


def test_shuffling(chains):
    def epochs(seed):
        dataset = chains.batches(8, shuffle=True, seed=seed)
        return [energies_of(to_numpy(dataset)) for _ in range(3)]

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert first == again
    for epoch in first:
        assert sorted(itertools.chain.from_iterable(epoch)) == list(range(100))
    assert first[0] != first[1]
    assert first[1] != first[2]
    assert first[0] != other[0]
    groups = [{frozenset(batch) for batch in epoch} for epoch in (*first, *other)]
    assert all(not (a & b) for a, b in itertools.combinations(groups, 2))


def test_shuffling_without_a_seed_differs_between_datasets(chains):
    first, second = (
        energies_of(to_numpy(chains.batches(8, shuffle=True))) for _ in range(2)
    )
    assert first != second


def test_missing_labels_stay_nan(labelled):
    pair = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    forces = np.array([[np.nan, 0, 1], [2, 3, 4]])
    data = read([labelled(pair, forces=forces)], 3.0, energy_key=None, verbose=False)
    _, targets = to_numpy(data.batches(1))[0]
    assert np.isnan(targets["energy"][:, 0]).all()
    np.testing.assert_array_equal(targets["forces"][:2, :3], forces)


def test_no_edges_at_all():
    atoms = [Atoms("H", info={"energy": float(n)}) for n in range(3)]
    data = read(atoms, 3.0, verbose=False)
    batches = to_numpy(data.batches(2, isolated_atoms="include"))
    assert len(batches) == 2
    for inputs, _ in batches:
        edges = inputs["edge_index"]
        assert edges.shape[1] > 0
        assert (inputs["atomic_numbers"][edges] == 0).all()


def test_dataset_can_be_mapped_and_repeated(chains):
    dataset = chains.batches(8).map(lambda inputs, targets: targets["energy"])
    assert int(dataset.repeat(2).cardinality()) == 26
    assert isinstance(next(iter(dataset)), tf.Tensor)


def count_padding(dataset):
    real, padded, shapes = np.zeros(2), np.zeros(2), set()
    for inputs, _ in to_numpy(dataset):
        is_atom = inputs["atomic_numbers"] > 0
        real += is_atom.sum(), is_atom[inputs["edge_index"][0]].sum()
        padded += len(is_atom), inputs["edge_index"].shape[1]
        shapes.add(shape_of(inputs))
    return 1 - real / padded, shapes


@pytest.mark.parametrize(
    ("batch_size", "shuffle"), [(2, False), (16, False), (8, True)]
)
def test_report_is_what_is_counted(chains, batch_size, shuffle):
    report = chains.padding(batch_size, shuffle)
    # With shuffle, the report draws the first epoch of seed 0.
    waste, shapes = count_padding(chains.batches(batch_size, shuffle, seed=0))
    np.testing.assert_allclose([report.atoms, report.edges], waste, atol=1e-12)
    assert set(report.shapes) == shapes
    assert len(report.shapes) == len(shapes)


def test_report_reads_as_a_line():
    report = Padding(shapes=((30, 200, 5), (60, 900, 5)), atoms=0.051, edges=0.1)
    assert str(report) == (
        "2 batch shapes (30 atoms × 200 edges, 60 atoms × 900 edges); padding: "
        "5.1% of atoms, 10.0% of edges"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("shuffle", [False, True])
def test_little_waste_on_real_sets(shared, name, shuffle):
    report = shared(name).padding(shuffle=shuffle)
    assert max(report.atoms, report.edges) <= 0.15
    assert len(report.shapes) <= 4


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_batch_size(structures, batch_size):
    with pytest.raises(ValueError, match=f"positive integer. Received: {batch_size}"):
        structures.batches(batch_size)


def test_what_cannot_be_batched(structures):
    with pytest.raises(ValueError, match=r"at least one structure. Received: an empty"):
        structures[:0].batches(4)
    with pytest.raises(ValueError, match=r"must be among .*Received: \('stress',\)"):
        structures.batches(4, labels=("stress",))
