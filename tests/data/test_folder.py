"""Folders of structures: what is written comes back, and nothing else does."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.data import Structures
from tfpes.data.folder import COLUMNS

LABELS = ("energy", "forces", "virial")


@pytest.fixture(scope="module", params=[True, False], ids=["edges", "no edges"])
def folder(request, structures, tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / "set"
    structures.save(path, edges=request.param)
    return path


def same(left, right):
    """Compare all columns; edges that were found anew have the same order."""
    for name in COLUMNS:
        a, b = getattr(left, name), getattr(right, name)
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


def numbers_of(dataset):
    """Return the weights in each batch, by which structures are told apart."""
    batches = dataset.as_numpy_iterator()
    return [w["energy"][w["energy"] > 0].tolist() for *_, w in batches]


def joined(parts):
    return sorted(itertools.chain.from_iterable(parts))


def test_columns_come_back(structures, folder):
    opened = tfpes.data.open(folder)
    assert isinstance(opened, Structures)
    assert opened.is_mapped
    assert repr(opened) == repr(structures)
    assert opened.hashes.tolist() == structures.hashes.tolist()
    assert opened.elements.tolist() == structures.elements.tolist()
    same(opened.with_edges(), structures)


def test_selections_are_read_when_they_are_asked_for(structures, folder):
    opened = tfpes.data.open(folder)
    some, expected = opened[2:][[1, 5, 9]], structures[[3, 7, 11]]
    assert some.is_mapped
    assert repr(some) == repr(expected)
    same(some.with_edges(), expected)
    same(some[1].with_edges(), expected[1])
    heavy = some.with_weight(np.array([1.0, 2.0, 3.0]))
    assert heavy[1:].weight.tolist() == [2.0, 3.0]
    for part, other in zip(
        opened.split((0.5, 0.3, 0.2), cover_elements=True),
        structures.split((0.5, 0.3, 0.2), cover_elements=True),
        strict=True,
    ):
        same(part.with_edges(), other)
    with pytest.raises(AttributeError):
        some.nothing  # noqa: B018


def test_batches_are_those_in_memory(structures, folder):
    opened = tfpes.data.open(folder)[1:].with_weight(np.arange(1.0, 15.0))
    other = structures[1:].with_weight(np.arange(1.0, 15.0))
    for shuffle in (False, True):
        options = {"shuffle": shuffle, "seed": 1, "labels": LABELS}
        found, expected = (
            [tf.nest.flatten(batch) for batch in s.batches(4, **options)]
            for s in (opened, other)
        )
        assert len(found) == len(expected) == 3
        for a, b in zip(found, expected, strict=True):
            for value, other_value in zip(a, b, strict=True):
                np.testing.assert_array_equal(value, other_value, strict=True)


def test_edges_that_were_not_counted_are_refused(structures, tmp_path):
    """A list that has become longer would not fit into the shapes of batches."""
    structures.save(tmp_path / "set", edges=False)
    counts = structures.edge_offsets + np.arange(len(structures) + 1)
    index = json.loads((tmp_path / "set/structures.json").read_text())
    np.save(tmp_path / "set/edge_offsets.npy", counts)
    index["edges"] = int(counts[-1])
    (tmp_path / "set/structures.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"another version of vesin\. Make the folder"):
        tfpes.data.open(tmp_path / "set").with_edges()


def test_windows(structures, folder, monkeypatch):
    """Each structure once in an epoch, whatever is in memory; four shares as well."""
    monkeypatch.setattr(tfpes.data.plan, "_WINDOW", 8)
    opened = tfpes.data.open(folder)[np.arange(290) % 15]
    numbered = opened.with_weight(np.arange(1.0, 291.0))

    class Share:
        def __init__(self, rank):
            self.rank, self.size = rank, 4
            self.refuse_alone = lambda: None

    options = {"shuffle": True, "seed": 3, "isolated_atoms": "include"}
    dataset = numbered.batches(4, **options)
    assert len(dataset) == 73
    first, second = numbers_of(dataset), numbers_of(dataset)
    for epoch in (first, second):
        assert len(epoch) == 73
        assert joined(epoch) == list(range(1, 291))
    assert first != second
    shares = [
        numbers_of(numbered.batches(4, share=Share(r), **options)) for r in range(4)
    ]
    together = [joined(parts) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in first]
    sequence = numbers_of(numbered.batches(4, isolated_atoms="include"))
    assert joined(sequence) == list(range(1, 291))
    for inputs, _, _ in dataset.take(20):
        part = opened[:1].with_edges()
        assert inputs["edge_index"].shape[1] >= part.edge_index.shape[1]
        real = inputs["atomic_numbers"].numpy() > 0
        distance = np.linalg.norm(tfpes.models.edge_vectors(inputs), axis=1)
        inside = real[inputs["edge_index"].numpy()[0]]
        assert (distance[inside] < opened.cutoff).all()


def test_a_folder_is_whole_or_not_there(structures, tmp_path, monkeypatch):
    path = tmp_path / "set"
    structures[:5].save(path)

    def fail(*_):
        raise OSError("no room")

    monkeypatch.setattr("tfpes.data.folder.write_json", fail)
    with pytest.raises(OSError, match="no room"):
        structures.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert len(tfpes.data.open(path)) == 5


def _cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def _pickle(path):
    np.save(path, np.array([{}] * 65, object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "damage", "text"),
    [
        ("positions.npy", _cut, "positions.npy', which is damaged"),
        ("forces.npy", lambda p: p.unlink(), "forces.npy', which is damaged"),
        ("positions.npy", lambda p: np.save(p, np.zeros((65, 3))), "is of float64"),
        ("energy.npy", lambda p: np.save(p, np.zeros(14)), r"has the shape \(14,\)"),
        ("atomic_numbers.npy", _pickle, "Python objects in dtype"),
        ("atom_offsets.npy", lambda p: np.save(p, np.arange(16)), "goes from 0 to 15"),
        ("structures.json", lambda p: p.write_text("{}"), "index of version 1"),
        ("structures.json", lambda p: p.unlink(), r"has no structures.json"),
    ],
)
def test_damaged_folders(structures, tmp_path, name, damage, text):
    structures.save(tmp_path / "set")
    damage(tmp_path / "set" / name)
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        tfpes.data.open(tmp_path / "set")


def test_read_or_load_takes_a_folder(structures, folder):
    opened = tfpes.data.read_or_load([str(folder)], 4.0, energy_key="energy")
    assert len(opened) == len(structures)
    with pytest.raises(ValueError, match=r"5 Å for .* of 4 Å. Pass `--cutoff 4`"):
        tfpes.data.read_or_load(str(folder), 5.0)
    with pytest.raises(ValueError, match="names of their own"):
        tfpes.data.read_or_load(folder, 4.0, energy_key="dft")


def test_index_tells_what_there_is(structures, folder):
    index = json.loads((folder / "structures.json").read_text())
    assert index["structures"] == 15
    assert index["cutoff"] == 4.0
    assert index["units"]["forces"] == "eV/Å"
    assert index["edges_are_stored"] == (folder / "edge_index.npy").exists()
    assert len(index["fingerprint"]) == 64
