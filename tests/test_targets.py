from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfpes.targets import (
    atom_target,
    composition,
    labelled,
    row_weights,
    split_atom_target,
    split_structure_target,
    structure_target,
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
