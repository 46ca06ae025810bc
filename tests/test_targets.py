from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfpes.targets import (
    atom_target,
    composition,
    flat,
    labelled,
    pack,
    row_weights,
    split_atom_target,
    split_structure_target,
    structure_target,
    unflat,
)

ATOMS = st.lists(st.tuples(st.integers(0, 118), st.integers(0, 4)), max_size=30)


@given(ATOMS)
def test_composition_counts(atoms):
    numbers = np.array([z for z, _ in atoms], np.int32)
    index = np.array([s for _, s in atoms], np.int32)
    counts = composition(numbers, index, 5)
    expected = np.zeros((5, 119))
    for (z, s), number in Counter(atoms).items():
        expected[s, z] = number if z else 0
    assert counts.dtype == tf.float64
    np.testing.assert_array_equal(counts, expected)


def test_composition_takes_lists_and_any_integers():
    counts = composition([8, 1, 1], np.array([0, 0, 1], np.int64), 2).numpy()
    assert counts[0, 8] == counts[0, 1] == counts[1, 1] == 1
    assert counts.sum() == 3


def test_composition_of_unknown_number_of_structures():
    function = tf.function(composition, jit_compile=False)
    counts = function(tf.constant([8, 1]), tf.constant([2, 0]), tf.constant(3))
    assert counts.shape == (3, 119)
    assert counts[2, 8] == counts[0, 1] == 1


@pytest.mark.parametrize("shape", [(), (3, 3)])
def test_structure_target_round_trip_is_exact(shape):
    rng = np.random.default_rng(0)
    values = -1e6 * rng.random((4, *shape))
    values[2] = np.nan
    counts = rng.integers(0, 90, (4, 119)).astype(float)
    target = structure_target(values, counts)
    assert target.dtype == tf.float64
    flat = values.reshape(4, -1)
    np.testing.assert_array_equal(target[:, : flat.shape[1]], flat)
    np.testing.assert_array_equal(target[:, -119:], counts)
    value, count = split_structure_target(target)
    np.testing.assert_array_equal(value, values)
    np.testing.assert_array_equal(count, counts)


@pytest.mark.parametrize("compiled", [None, False, True])
def test_energies_survive_a_cast_to_float32(compiled):
    generator = np.random.default_rng(0)
    whole = np.array([-500_000.0, 0.0, -1e39, np.nan, np.inf])
    values = np.append(-1e6 * generator.random(100), whole)
    target = structure_target(values, np.ones((105, 119)))

    def energies(target):
        return split_structure_target(target)[0]

    if compiled is not None:
        energies = tf.function(energies, jit_compile=compiled)
    np.testing.assert_array_equal(energies(target), values)
    cast = energies(tf.cast(target, tf.float32))
    assert cast.dtype == tf.float64
    values[-3] = -np.inf
    np.testing.assert_allclose(cast, values, rtol=1e-14)
    again = energies(tf.cast(tf.cast(target, tf.float32), tf.float64))
    np.testing.assert_array_equal(again, cast)
    for array in (target.numpy(), tf.cast(target, tf.float32).numpy()):
        found = split_structure_target(array)[0]
        np.testing.assert_allclose(found[:-3], values[:-3], rtol=1e-14)


def test_atom_target_round_trip_is_exact():
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(6, 3)).astype(np.float32)
    forces[1, 2] = np.nan
    numbers = np.array([1, 118, 8, 6, 0, 0], np.int32)
    index = np.array([0, 0, 1, 70_000, 70_001, 70_001], np.int32)
    target = atom_target(forces, numbers, index)
    assert target.dtype == tf.float32
    forces[numbers == 0] = np.nan  # padding has no label
    columns = [forces, numbers[:, None], index[:, None]]
    np.testing.assert_array_equal(target, np.hstack(columns).astype(np.float32))
    for part, expected in zip(
        split_atom_target(target), (forces, numbers, index), strict=True
    ):
        assert part.dtype == expected.dtype
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 119), (4, 120), (2, 4, 121)])
def test_split_structure_target_of_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"\(S, 121\) for energies.*Received: \("):
        split_structure_target(np.zeros(shape))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 6), (2, 4, 5)])
def test_split_atom_target_of_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"shape \(A, 5\): Fx.*Received: \("):
        split_atom_target(np.zeros(shape))


def test_large_energies_in_float32_warn(dense):
    energies = np.array([-6.0e6, np.nan, -1.0], np.float32)
    counts = dense({29: 100}, {29: 1}, {29: 1})
    with pytest.warns(UserWarning, match=r"up to 6e\+06 eV, .* by up to 0\.25"):
        structure_target(energies, counts)
    structure_target(energies.astype(np.float64), counts)
    structure_target(energies[1:], counts[1:])


def test_lists_of_large_energies_keep_their_digits(dense):
    target = structure_target([-123456.789012345], dense({29: 100}))
    assert float(target[0, 0]) == -123456.789012345


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_labels_that_are_not_there(rank, shape):
    """NaN labels and masked rows, whatever is predicted for them."""
    labels = np.ones((4,) + (3,) * (rank - 1), np.float32)
    labels[1] = np.nan
    pred = tf.Variable(
        np.where(np.arange(4) == 3, 2.0, np.nan) * np.ones_like(labels).T
    )
    with tf.GradientTape() as tape:
        guess = tf.transpose(pred)[..., None]
        guess._keras_mask = tf.reshape([False, True, False, True], shape)
        true, found, present = labelled(labels, guess)
        total = tf.reduce_sum((found - true) ** 2)
    expected = np.zeros_like(labels, bool)
    expected[3] = True
    np.testing.assert_array_equal(present, expected)
    np.testing.assert_array_equal(true, expected * 1.0)
    np.testing.assert_array_equal(found, expected * 2.0)
    assert true.dtype == found.dtype == tf.float64
    np.testing.assert_array_equal(tape.gradient(total, pred), expected.T * 2.0)


def test_mask_of_another_shape():
    pred = tf.zeros((4, 3))
    pred._keras_mask = tf.ones((4, 3), bool)
    with pytest.raises(ValueError, match=r"one entry for each row, \(4,\).*\(4, 3\)"):
        labelled(np.zeros((4, 3)), pred)


def test_one_weight_for_all():
    target = structure_target(np.zeros(3), np.eye(119)[[1, 1, 8]])
    np.testing.assert_array_equal(row_weights(0.5, target), [0.5, 0.5, 0.5])


def test_dense_batches_are_flat_ones():
    """Rows of (B, N, 4) are atoms, those of Z = 0 without labels."""
    rng = np.random.default_rng(0)
    numbers = np.array([[8, 1, 1], [1, 1, 0], [0, 0, 0]])
    forces = rng.normal(size=(3, 3, 3)).astype(np.float32)
    labels = {"energy": [[-14.0], [-6.0], [7.0]], "virial": rng.normal(size=(3, 3, 3))}
    dense = pack(forces=forces, atomic_numbers=numbers, **labels)
    index, atoms = np.repeat(np.arange(3), 3), {"atomic_numbers": numbers.ravel()}
    atoms["structure_index"] = index
    expected = pack(forces=forces.reshape(-1, 3), **atoms, **labels)
    np.testing.assert_array_equal(composition(numbers), composition(*atoms.values(), 3))
    weights = [1.0, 2.0, 3.0]
    for array in (dense["forces"], dense["forces"].numpy()):
        target, pred, weight = flat(array, forces[..., None], weights)
        assert isinstance(target, type(array))
        np.testing.assert_array_equal(target, expected["forces"])
        np.testing.assert_array_equal(pred[..., 0], forces.reshape(-1, 3))
        np.testing.assert_array_equal(weight, np.repeat(weights, 3))
        np.testing.assert_array_equal(unflat(pred, array), forces[..., None])
    for key in ("energy", "virial"):
        np.testing.assert_array_equal(dense[key], expected[key])
    assert np.isnan(dense["energy"][2, 0])  # no atoms
    values, found, index = split_atom_target(dense["forces"])
    np.testing.assert_array_equal(np.isnan(values).all(axis=-1), numbers == 0)
    np.testing.assert_array_equal(found, numbers)
    assert index is None


def test_pack_in_a_graph_of_unknown_sizes():
    signature = [tf.TensorSpec((None, None, *rest)) for rest in ((), (3,))]
    signature.append(tf.TensorSpec((None,), tf.float64))

    @tf.function(input_signature=signature, jit_compile=False)
    def packed(numbers, forces, energy):
        targets = pack(energy=energy, forces=forces, atomic_numbers=numbers)
        return flat(targets["forces"])[0], targets["energy"]

    forces, energy = packed(tf.ones((2, 3)), tf.ones((2, 3, 3)), [-1.0, -2.0])
    np.testing.assert_array_equal(forces[:, 4], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(energy[:, 3], [3, 3])


@pytest.mark.parametrize("kind", [np.bool_, np.float32, lambda flags: flags[..., None]])
def test_labels_by_flags_and_weights(kind):
    numbers, ones = np.array([[8, 1, 1], [1, 1, 0]]), np.ones((2, 3, 3))
    atoms = np.array([[1, 0, 1], [1, 1, 1]])
    present = {"energy": kind(np.array([0, 1])), "forces": atoms[..., None]}
    present["virial"] = 0.0
    labels = {"energy": [1.0, 1.0], "forces": ones, "virial": ones}
    targets = pack(**labels, atomic_numbers=numbers, present=present)
    np.testing.assert_array_equal(targets["energy"][:, 0], [np.nan, 1])
    assert np.isnan(targets["virial"][:, :9]).all()
    there = atoms * (numbers > 0)
    np.testing.assert_array_equal(targets["forces"][..., 0] == 1, there)
    one = atom_target(ones, numbers, present=ones * [1, 0, 1])
    np.testing.assert_array_equal(np.isfinite(one[0, 0, :3]), [True, False, True])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pack(atomic_numbers=[[1]]), r"labels `energy`.*labels \[\]"),
        (
            lambda: pack(energy=[1], atomic_numbers=[[1]], present={"forces": 1}),
            r"present \['forces'\]",
        ),
        (lambda: pack(energy=[1], atomic_numbers=[1]), r"\(B, N\) without.*map"),
        (lambda: composition([1], [0]), r"needs `num_structures`.*Received: None"),
        (lambda: composition([[1]], [0], 1), r"Received: shape \(1, 1\) with\."),
        (lambda: atom_target(np.ones((1, 3)), [[1]]), r"\(1, 3\) for \(1, 1\)"),
        (
            lambda: structure_target([1.0], np.eye(119)[[1]], [True, False]),
            r"flags of the labels \(1,\).*shape \(2,\)",
        ),
        (
            lambda: flat(np.ones((2, 3, 4)), np.ones((3, 2, 3))),
            r"forces \(B, N, 3\).*\(2, 3, 3\).*\(3, 2, 3\)",
        ),
        (
            lambda: flat(np.ones((2, 3, 4)), None, np.ones(3)),
            r"\(B, N\), one for each atom.*here \(2, 3\)\. Received: shape \(3,\)",
        ),
    ],
)
def test_what_does_not_fit(call, match):
    with pytest.raises(ValueError, match=match):
        call()
