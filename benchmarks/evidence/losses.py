"""The losses that are compared, as numbers that one compiled step takes.

All divide squared errors of energies by a scale of the same form,

    s² = c + Σ n_z v_z + N² k,

and squared errors of force components by η_z².
"""

import dataclasses

import numpy as np

from tfpes.elements import NUMBER_OF_COLUMNS


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """Numbers of a loss; the ratio is that of energies to forces."""

    constant: float = 0.0
    variance: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(NUMBER_OF_COLUMNS)
    )
    collective: float = 0.0
    force_scale: np.ndarray = dataclasses.field(
        default_factory=lambda: np.ones(NUMBER_OF_COLUMNS)
    )

    def numbers(self, ratio):
        """Return what the step takes; the weights of both terms sum to 1."""
        return {
            "constant": np.float64(self.constant),
            "variance": np.float64(self.variance),
            "collective": np.float64(self.collective),
            # Padding and elements that are not there divide by 1.
            "force_scale": np.float32(
                np.where(self.force_scale > 0, self.force_scale, 1)
            ),
            "weights": np.float64([ratio / (1 + ratio), 1 / (1 + ratio)]),
        }


def standardized(normalization):
    """Return our loss with the statistics of a layer."""
    return Loss(
        variance=normalization.energy_variance.numpy(),
        collective=float(normalization.collective_variance.numpy()),
        force_scale=normalization.force_scale.numpy(),
    )


def all_losses(independent, auto):
    """Return the losses of benchmark 1, by name."""
    ones = np.ones(NUMBER_OF_COLUMNS)
    return {
        "raw": Loss(constant=1.0),
        "per atom": Loss(collective=1.0),
        "per √N": Loss(variance=ones),
        "standardized": standardized(independent),
        "standardized, auto": standardized(auto),
    }
