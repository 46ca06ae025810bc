"""PaiNN: equivariant message passing."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.models.network import Network
from tfpes.models.radial import cutoff_function, edge_vectors, safe_norm, sinc_basis
from tfpes.targets import Tensor

# Added to squared lengths of features, so that their norm is smooth at 0, where an
# atom in a site with inversion symmetry is.
_EPSILON = 1e-8


@keras.saving.register_keras_serializable(package="tfpes")
class PaiNN(Network):
    """A message-passing network with scalar and vector features.

    Atom i has scalar features s_i and vector features v_i, which rotate with the
    structure and start at 0. Each block first collects messages of the neighbours j,

        s_i ← s_i + Σ_j φ_s(s_j) ∘ W_s(d_ij),
        v_i ← v_i + Σ_j φ_r(s_j) ∘ W_r(d_ij) r_ij / d_ij + v_j ∘ φ_v(s_j) ∘ W_v(d_ij),

    and then mixes the features of each atom,

        s_i ← s_i + a_s + a_sv ∘ ⟨U v_i, V v_i⟩,   v_i ← v_i + a_v ∘ U v_i,

    where φ are parts of a two-layer network of s_j, and a of one of s_i and ‖V v_i‖.
    The filters W are linear in the radial basis times a function that goes smoothly
    to 0 at the cutoff. A last MLP gives one number per atom. Parts that cannot reach
    it are left out: φ_v of the first block, where all v are 0, and a_v of the last.

    Args:
        cutoff: radius of the neighbour lists, Å.
        channels: scalar features, and vector features, per atom.
        blocks: number of messages and updates.
        basis_size: number of radial functions.
        cutoff_function: ``"cosine"`` or ``"polynomial"``.
        **kwargs: ``name``, ``dtype``, ``trainable``. The arithmetic is in float64
            under a policy of float64, and in float32 under any other.

    Call arguments:
        inputs: dict as for :class:`tfpes.models.Potential`.

    Returns:
        (A,), one unitless local energy per atom.

    Raises:
        ValueError: for a cutoff, a size or a cutoff function that makes no sense.

    Reference:
        Schütt, Unke, Gastegger, Equivariant message passing for the prediction of
        tensorial properties and molecular spectra, ICML 2021, arXiv:2102.03150.
    """

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: int = 128,
        blocks: int = 3,
        basis_size: int = 20,
        cutoff_function: str = "cosine",
        **kwargs: Any,
    ) -> None:
        """Create the sublayers."""
        super().__init__(
            cutoff, channels, blocks, basis_size, cutoff_function, **kwargs
        )
        # Parts of the messages, and of the updates, of each block.
        self._sent = [2] + [3] * (blocks - 1)
        mixed = self._sent[::-1]
        self.filters = self._dense(basis_size, sum(self._sent) * channels, "filters")
        self.messages = [
            layer
            for b, parts in enumerate(self._sent)
            for layer in self._mlp(
                (channels, channels, parts * channels), f"message_{b}"
            )
        ]
        self.mixers = [
            self._dense(channels, 2 * channels, f"mix_{b}", use_bias=False)
            for b in range(blocks)
        ]
        self.updates = [
            layer
            for b, parts in enumerate(mixed)
            for layer in self._mlp(
                (2 * channels, channels, parts * channels), f"update_{b}"
            )
        ]
        self.readout = self._make_readout()

    @property
    def _inner_dtype(self) -> str:
        # Half precision cannot hold the squares of small vector features.
        return "float64" if self.compute_dtype == "float64" else "float32"

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return one unitless local energy per atom, (A,)."""
        vectors = tf.cast(edge_vectors(inputs), self.embedding.dtype)
        distance = safe_norm(vectors)
        switch = cutoff_function(distance, self.cutoff, self.cutoff_function)
        basis = sinc_basis(distance, self.basis_size, self.cutoff)
        filters = self.filters(basis) * switch[:, None]
        filters = tf.split(filters, [n * self.channels for n in self._sent], axis=1)
        direction = (vectors / distance[:, None])[:, :, None]
        scalar, vector = self.embedding(inputs["atomic_numbers"]), None
        for block in range(self.blocks):
            scalar, vector = self._message(
                block, scalar, vector, filters[block], direction, inputs["edge_index"]
            )
            scalar, vector = self._update(block, scalar, vector)
        return self._read_out(scalar)

    def _message(
        self,
        block: int,
        scalar: Tensor,
        vector: Tensor | None,
        filters: Tensor,
        direction: Tensor,
        edge_index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Add the messages of the neighbours; ``vector`` is None where it is 0."""
        first, second = self.messages[2 * block : 2 * block + 2]
        centre, neighbour = edge_index[0], edge_index[1]
        parts = tf.gather(second(first(scalar)), neighbour) * filters
        parts = tf.split(parts[:, None, :], self._sent[block], axis=2)
        sent = parts[1] * direction
        if vector is not None:
            sent += parts[2] * tf.gather(vector, neighbour)
        num_atoms = scalar.shape[0] or tf.shape(scalar)[0]
        total = tf.math.unsorted_segment_sum(
            tf.concat([parts[0], sent], axis=1), centre, num_atoms
        )
        vectors = total[:, 1:] if vector is None else vector + total[:, 1:]
        return scalar + total[:, 0], vectors

    def _update(
        self, block: int, scalar: Tensor, vector: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mix the features of each atom; (A, C) and (A, 3, C)."""
        first, second = self.updates[2 * block : 2 * block + 2]
        u, v = tf.split(self.mixers[block](vector), 2, axis=2)
        norm = tf.sqrt(tf.reduce_sum(v**2, axis=1) + _EPSILON)
        mixed = second(first(tf.concat([scalar, norm], axis=1)))
        last = block == self.blocks - 1
        a = tf.split(mixed, 2 if last else 3, axis=1)
        scalar = scalar + a[0] + a[1] * tf.reduce_sum(u * v, axis=1)
        return scalar, vector if last else vector + a[2][:, None] * u
