"""SchNet: continuous-filter convolutions."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpes.models.hermite import interpolate
from tfpes.models.network import Network
from tfpes.models.radial import (
    cutoff_derivatives,
    cutoff_function,
    edge_vectors,
    gaussian_basis,
    gaussian_derivatives,
    safe_norm,
)
from tfpes.targets import Tensor

_LOG_2 = 0.6931471805599453
# Intervals of the table of filters per distance of two Gaussians, and at least, for the
# switch: filters are then exact to 3e-8 of the largest, and their slopes to 1e-6.
_INTERVALS = 5
_LEAST_INTERVALS = 100


def _shifted_softplus(x: Tensor) -> Tensor:
    """``ln(1 + eˣ) - ln 2``: smooth, and 0 at 0."""
    return tf.math.softplus(x) - _LOG_2


@keras.saving.register_keras_serializable(package="tfpes")
class SchNet(Network):
    """A message-passing network with continuous-filter convolutions.

    Each block updates the features of atom i with its neighbours j,

        x_i ← x_i + MLP(Σ_j (A x_j) ∘ W(d_ij) f(d_ij)),

    where the filter W is a two-layer network of the distance in a Gaussian basis and
    f goes smoothly to 0 at the cutoff. A last MLP gives one number per atom. The
    features of an element are independent of the others' (no element is special).

    The filters are functions of one number. They are therefore evaluated on a grid of
    distances, with their first and second derivatives, and interpolated by quintic
    Hermite polynomials: the cost of their matrix products does not grow with the
    number of edges. Energies, forces and virials are those of the interpolated
    function, so that they are consistent with each other to rounding.

    Args:
        cutoff: radius of the neighbour lists, Å.
        channels: features per atom.
        blocks: number of updates.
        basis_size: number of Gaussians.
        cutoff_function: ``"cosine"`` or ``"polynomial"``.
        interpolate: False evaluates the filters for each edge, which takes longer; they
            differ by 3e-8 of the largest, their slopes by 1e-6.
        **kwargs: ``name``, ``dtype``, ``trainable``.

    Call arguments:
        inputs: dict as for :class:`tfpes.models.Potential`.

    Returns:
        (A,), one unitless local energy per atom.

    Raises:
        ValueError: for a cutoff, a size or a cutoff function that makes no sense.

    Reference:
        Schütt et al., SchNet - a deep learning architecture for molecules and
        materials, J. Chem. Phys. 148, 241722 (2018).
    """

    _least_basis_size = 2
    _activation = staticmethod(_shifted_softplus)
    _spread = 0.05

    def __init__(
        self,
        cutoff: float = 5.0,
        channels: int = 64,
        blocks: int = 3,
        basis_size: int = 64,
        cutoff_function: str = "cosine",
        interpolate: bool = True,
        **kwargs: Any,
    ) -> None:
        """Create the sublayers."""
        super().__init__(
            cutoff, channels, blocks, basis_size, cutoff_function, **kwargs
        )
        self.interpolate = bool(interpolate)
        square = (channels, channels, channels)
        self.filters = [
            layer
            for b in range(blocks)
            for layer in self._mlp((basis_size, channels, channels), f"filter_{b}")
        ]
        self.mixers = [
            self._dense(channels, channels, f"mix_{b}", use_bias=False)
            for b in range(blocks)
        ]
        self.updates = [
            layer for b in range(blocks) for layer in self._mlp(square, f"update_{b}")
        ]
        self.readout = self._make_readout()

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return one unitless local energy per atom, (A,)."""
        centre, neighbour = inputs["edge_index"][0], inputs["edge_index"][1]
        numbers = inputs["atomic_numbers"]
        num_atoms = numbers.shape[0] or tf.shape(numbers)[0]
        filters_of = self._filters(safe_norm(edge_vectors(inputs)))
        features = self.embedding(numbers)
        for block in range(self.blocks):
            filters = tf.cast(filters_of(block), self.compute_dtype)
            mixed = tf.gather(self.mixers[block](features), neighbour)
            message = tf.math.unsorted_segment_sum(mixed * filters, centre, num_atoms)
            first, second = self.updates[2 * block : 2 * block + 2]
            features = features + second(first(message))
        return self._read_out(features)

    def _filters(self, distance: Tensor) -> Callable[[int], Tensor]:
        """Return a function from a block to its filters times the switch, (P, C)."""
        if self.interpolate:
            intervals = max(_INTERVALS * (self.basis_size - 1), _LEAST_INTERVALS)
            place = distance * (intervals / self.cutoff)
            constants = self._constants(intervals, distance.dtype)
            tables = [self._table(block, *constants) for block in range(self.blocks)]
            return interpolate(tables, place).__getitem__
        basis = gaussian_basis(distance, self.basis_size, self.cutoff)
        basis = tf.cast(basis, self.compute_dtype)
        switch = cutoff_function(distance, self.cutoff, self.cutoff_function)[:, None]
        switch = tf.cast(switch, self.compute_dtype)

        def evaluate(block: int) -> Tensor:
            first, second = self.filters[2 * block : 2 * block + 2]
            return second(first(basis)) * switch

        return evaluate

    def _constants(self, intervals: int, dtype: Any) -> tuple[Tensor, Tensor]:
        """Return basis and switch on the grid, with two derivatives by grid step."""
        knots, step = np.linspace(0, self.cutoff, intervals + 1, retstep=True)
        powers = step ** np.arange(3)[:, None, None]
        basis = gaussian_derivatives(knots, self.basis_size, self.cutoff)
        switch = cutoff_derivatives(knots, self.cutoff, self.cutoff_function)
        return (
            tf.constant(powers * basis, dtype),
            tf.constant(powers * switch[:, :, None], dtype),
        )

    def _table(self, block: int, basis: Tensor, switch: Tensor) -> Tensor:
        """Return the filters on the grid, with two derivatives, (3, K + 1, C)."""
        first, second = self.filters[2 * block : 2 * block + 2]
        weights = (first.kernel, first.bias, second.kernel, second.bias)
        kernel_0, bias_0, kernel_1, bias_1 = (tf.cast(w, basis.dtype) for w in weights)
        # The chain rule by hand: σ is the slope of the softplus.
        z, z1, z2 = tf.unstack(tf.tensordot(basis, kernel_0, axes=1))
        z += bias_0
        slope = tf.sigmoid(z)
        hidden = [_shifted_softplus(z), slope * z1]
        hidden.append(slope * (z2 + (1.0 - slope) * z1**2))
        w, w1, w2 = tf.unstack(tf.tensordot(tf.stack(hidden), kernel_1, axes=1))
        w += bias_1
        f, f1, f2 = tf.unstack(switch)
        return tf.stack([w * f, w1 * f + w * f1, w2 * f + 2.0 * w1 * f1 + w * f2])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "interpolate": self.interpolate}
