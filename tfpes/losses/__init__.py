"""Losses of standardized labels."""

from tfpes.losses.losses import EnergyLoss, ForceLoss, VirialLoss
from tfpes.losses.standardized_errors import energy_error, force_error, virial_error

__all__ = [
    "EnergyLoss",
    "ForceLoss",
    "VirialLoss",
    "energy_error",
    "force_error",
    "virial_error",
]
