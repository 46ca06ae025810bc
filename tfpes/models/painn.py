"""PaiNN: equivariant message passing."""

from typing import Any

import keras
import tensorflow as tf

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.models.element_embedding import ElementEmbedding
from tfpes.models.radial import (
    CUTOFF_FUNCTIONS,
    SincBasis,
    cutoff_function,
    edge_vectors,
    safe_norm,
)

# Added to squared lengths of features, so that their norm is smooth at 0, where an
# atom in a site with inversion symmetry is.
_EPSILON = 1e-8


@keras.saving.register_keras_serializable(package="tfpes")
class PaiNN(keras.layers.Layer):
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
        inputs: dict of ``positions`` (A, 3) Å, ``atomic_numbers`` (A,),
            ``structure_index`` (A,), ``cell`` (S, 3, 3) Å, ``edge_index`` (2, P),
            ``edge_shift`` (P, 3).

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
        # Coordinates keep their precision under any dtype policy.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        if not cutoff > 0:
            raise ValueError(f"`cutoff` must be positive (Å). Received: {cutoff}.")
        if min(channels, blocks, basis_size) < 1:
            raise ValueError(
                "`channels`, `blocks` and `basis_size` must be at least 1. Received: "
                f"{channels}, {blocks}, {basis_size}."
            )
        if cutoff_function not in CUTOFF_FUNCTIONS:
            raise ValueError(
                f"`cutoff_function` must be one of {CUTOFF_FUNCTIONS}. Received: "
                f"{cutoff_function!r}."
            )
        self.cutoff = float(cutoff)
        self.channels = int(channels)
        self.blocks = int(blocks)
        self.basis_size = int(basis_size)
        self.cutoff_function = cutoff_function
        # Half precision cannot hold the squares of small vector features.
        dtype = "float64" if self.compute_dtype == "float64" else "float32"

        def dense(units: int, name: str, **options: Any) -> keras.layers.Dense:
            return keras.layers.Dense(units, name=name, dtype=dtype, **options)

        self.basis = SincBasis(basis_size, cutoff, dtype=dtype)
        self.embedding = ElementEmbedding(
            NUMBER_OF_COLUMNS,
            channels,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
            dtype=dtype,
        )
        # Parts of the messages, and of the updates, of each block.
        self._sent = [2, *(3 for _ in range(blocks - 1))]
        mixed = [*(3 for _ in range(blocks - 1)), 2]
        self.filters = dense(sum(self._sent) * channels, "filters")
        self.messages = [
            [
                dense(channels, f"message_{b}_0", activation="silu"),
                dense(self._sent[b] * channels, f"message_{b}_1"),
            ]
            for b in range(blocks)
        ]
        self.mixers = [
            dense(2 * channels, f"mix_{b}", use_bias=False) for b in range(blocks)
        ]
        self.updates = [
            [
                dense(channels, f"update_{b}_0", activation="silu"),
                dense(mixed[b] * channels, f"update_{b}_1"),
            ]
            for b in range(blocks)
        ]
        self.readout = [
            dense(max(channels // 2, 1), "readout_0", activation="silu"),
            dense(1, "readout_1", use_bias=False),
        ]

    def build(self, input_shape: Any = None) -> None:
        """Create all weights; their shapes do not depend on the input."""
        features = (None, self.channels)
        self.embedding.build((None,))
        self.filters.build((None, self.basis_size))
        for first, second in self.messages:
            first.build(features)
            second.build(features)
        for mixer in self.mixers:
            mixer.build((None, 3, self.channels))
        for first, second in self.updates:
            first.build((None, 2 * self.channels))
            second.build(features)
        self.readout[0].build(features)
        self.readout[1].build((None, self.readout[0].units))
        self.built = True

    def call(self, inputs: dict[str, Any]) -> Any:
        """Return one unitless local energy per atom, (A,)."""
        vectors = tf.cast(edge_vectors(inputs), self.embedding.dtype)
        distance = safe_norm(vectors)
        switch = cutoff_function(distance, self.cutoff, self.cutoff_function)
        filters = self.filters(self.basis(distance)) * switch[:, None]
        filters = tf.split(filters, [n * self.channels for n in self._sent], axis=1)
        direction = (vectors / distance[:, None])[:, :, None]
        scalar, vector = self.embedding(inputs["atomic_numbers"]), None
        for block in range(self.blocks):
            scalar, vector = self._message(
                block, scalar, vector, filters[block], direction, inputs["edge_index"]
            )
            scalar, vector = self._update(block, scalar, vector)
        return self.readout[1](self.readout[0](scalar))[:, 0]

    def _message(
        self,
        block: int,
        scalar: Any,
        vector: Any,
        filters: Any,
        direction: Any,
        edge_index: Any,
    ) -> tuple[Any, Any]:
        """Add the messages of the neighbours; ``vector`` is None where it is 0."""
        first, second = self.messages[block]
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

    def _update(self, block: int, scalar: Any, vector: Any) -> tuple[Any, Any]:
        """Mix the features of each atom; (A, C) and (A, 3, C)."""
        first, second = self.updates[block]
        u, v = tf.split(self.mixers[block](vector), 2, axis=2)
        norm = tf.sqrt(tf.reduce_sum(v**2, axis=1) + _EPSILON)
        mixed = second(first(tf.concat([scalar, norm], axis=1)))
        last = block == self.blocks - 1
        a = tf.split(mixed, 2 if last else 3, axis=1)
        scalar = scalar + a[0] + a[1] * tf.reduce_sum(u * v, axis=1)
        return scalar, vector if last else vector + a[2][:, None] * u

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "cutoff": self.cutoff,
            "channels": self.channels,
            "blocks": self.blocks,
            "basis_size": self.basis_size,
            "cutoff_function": self.cutoff_function,
        }
