import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpes.models.element_embedding import ElementEmbedding

NUMBERS = np.array([1, 1, 8, 1, 0, 8], np.int32)


def fresh(cls, **options):
    layer = cls(119, 4, embeddings_initializer="ones", **options)
    layer.build((None,))
    rng = np.random.default_rng(0)
    layer.embeddings.assign(rng.normal(size=(119, 4)))
    return layer


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rows_and_gradient(jit_compile):
    layer, reference = fresh(ElementEmbedding), fresh(keras.layers.Embedding)
    weight = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)

    @tf.function(jit_compile=jit_compile)
    def gradient(layer):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(NUMBERS) ** 2 * weight)
        return tf.convert_to_tensor(tape.gradient(total, layer.embeddings.value))

    np.testing.assert_array_equal(layer(NUMBERS), reference(NUMBERS))
    expected = np.zeros((119, 4))
    table = layer.embeddings.numpy()
    np.add.at(expected, NUMBERS, 2 * table[NUMBERS] * weight)
    np.testing.assert_allclose(gradient(layer), expected, rtol=1e-6, atol=1e-6)


def test_dtype_of_the_policy():
    assert fresh(ElementEmbedding, dtype="mixed_float16")(NUMBERS).dtype == "float16"
    assert fresh(ElementEmbedding, dtype="float64")(NUMBERS).dtype == "float64"


def first_step(layer):
    """Return by how much Adam moves the rows of H and O at first."""
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([layer.embeddings])
    before = layer.embeddings.numpy()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(NUMBERS))
    gradient = tape.gradient(total, layer.embeddings.value)
    optimizer.apply([gradient], [layer.embeddings])
    return (layer.embeddings.numpy() - before)[[1, 8]]


def test_adam_moves_each_row_by_the_learning_rate():
    np.testing.assert_allclose(first_step(fresh(ElementEmbedding)), -0.1, rtol=1e-5)


def test_adam_goes_astray_with_the_layer_of_keras():
    # The reason for ours. If this fails, Keras has mended it: use its layer.
    expected = -0.1 * np.sqrt([[3.0], [2.0]]) * np.ones((2, 4))
    found = first_step(fresh(keras.layers.Embedding))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
