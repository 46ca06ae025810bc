"""Features of elements."""

import keras
import tensorflow as tf

from tfpes.targets import Tensor


@keras.saving.register_keras_serializable(package="tfpes")
class ElementEmbedding(keras.layers.Embedding):
    """One vector per element, with a gradient that every optimizer handles right.

    The gradient of ``keras.layers.Embedding`` is a list of rows, one for each atom. Of
    such a list Adam (Keras 3.15) sums the squares of the rows where it needs the square
    of their sum: an element with n atoms in a batch then takes steps that are up to
    √n times too large. Here the rows of an element are summed first.

    Args:
        *args: those of ``keras.layers.Embedding``: ``input_dim`` (119, one row for each
            atomic number and one for padding), ``output_dim``, ...
        **kwargs: likewise.

    Call arguments:
        atomic_numbers: (A,) int.

    Returns:
        (A, output_dim).
    """

    def call(self, atomic_numbers: Tensor) -> Tensor:
        """Look the rows up."""
        table = tf.cast(tf.convert_to_tensor(self.embeddings), self.compute_dtype)
        return _lookup(table, atomic_numbers)


def _lookup(table: Tensor, index: Tensor) -> Tensor:
    """Return rows of a table; their gradient is a tensor of its shape."""

    @tf.custom_gradient
    def gather(table: Tensor) -> tuple[Tensor, Tensor]:
        def gradient(upstream: Tensor) -> Tensor:
            return tf.math.unsorted_segment_sum(upstream, index, table.shape[0])

        return tf.gather(table, index), gradient

    return gather(table)
