"""What the networks of this package have in common."""

from typing import Any, ClassVar

import keras

from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.models.element_embedding import ElementEmbedding
from tfpes.models.radial import check_cutoff_function
from tfpes.targets import Tensor


class Network(keras.layers.Layer):
    """Options, features of elements, and parts for the blocks of a subclass.

    All weights exist from the start; their shapes do not depend on the input.

    Args:
        cutoff: radius of the neighbour lists, Å.
        channels: features per atom.
        blocks: number of blocks.
        basis_size: number of radial functions.
        cutoff_function: ``"cosine"`` or ``"polynomial"``.
        **kwargs: ``name``, ``dtype``, ``trainable``.

    Raises:
        ValueError: for a cutoff, a size or a cutoff function that makes no sense.
    """

    _least_basis_size = 1
    _activation: ClassVar[Any] = "silu"
    # Standard deviation of the features of an element before training.
    _spread = 1.0

    def __init__(
        self,
        cutoff: float,
        channels: int,
        blocks: int,
        basis_size: int,
        cutoff_function: str,
        **kwargs: Any,
    ) -> None:
        """Keep the options and create the features of elements."""
        # Coordinates keep their precision under any dtype policy.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        if not cutoff > 0:
            raise ValueError(f"`cutoff` must be positive (Å). Received: {cutoff}.")
        if min(channels, blocks) < 1 or basis_size < self._least_basis_size:
            raise ValueError(
                "`channels` and `blocks` must be at least 1 and `basis_size` at least "
                f"{self._least_basis_size}. Received: {channels}, {blocks}, "
                f"{basis_size}."
            )
        check_cutoff_function(cutoff_function)
        self.cutoff = float(cutoff)
        self.channels = int(channels)
        self.blocks = int(blocks)
        self.basis_size = int(basis_size)
        self.cutoff_function = cutoff_function
        initializer = keras.initializers.RandomNormal(stddev=self._spread)
        self.embedding = ElementEmbedding(
            NUMBER_OF_COLUMNS,
            channels,
            embeddings_initializer=initializer,
            dtype=self._inner_dtype,
        )
        self._build_part(self.embedding, (None,))

    @property
    def _inner_dtype(self) -> Any:
        """The dtype or policy of the layers inside."""
        return self.dtype_policy

    def _build_part(self, layer: keras.layers.Layer, shape: tuple) -> None:
        with keras.name_scope(self.name):
            layer.build(shape)

    def _dense(
        self, inputs: int, units: int, name: str, **options: Any
    ) -> keras.layers.Dense:
        layer = keras.layers.Dense(units, name=name, dtype=self._inner_dtype, **options)
        self._build_part(layer, (None, inputs))
        return layer

    def _mlp(
        self, sizes: tuple[int, int, int], name: str, **options: Any
    ) -> list[keras.layers.Dense]:
        """Return two layers, the first with the activation.

        Layers are kept in flat lists, two for each block: Keras before 3.15 does not
        save those in lists of lists.
        """
        inputs, hidden, units = sizes
        return [
            self._dense(inputs, hidden, f"{name}_0", activation=self._activation),
            self._dense(hidden, units, f"{name}_1", **options),
        ]

    def _make_readout(self) -> list[keras.layers.Dense]:
        sizes = (self.channels, max(self.channels // 2, 1), 1)
        return self._mlp(sizes, "readout", use_bias=False)

    def _read_out(self, features: Tensor) -> Tensor:
        """Return one unitless local energy per atom, (A,)."""
        first, second = self.readout
        return second(first(features))[:, 0]

    def build(self, input_shape: Any = None) -> None:
        """There is nothing left to build."""
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        names = ("cutoff", "channels", "blocks", "basis_size", "cutoff_function")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
