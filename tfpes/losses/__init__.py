"""Losses of standardized labels."""

from tfpes.losses.errors import energy_error, force_error, virial_error
from tfpes.losses.losses import EnergyLoss, ForceLoss, VirialLoss

__all__ = [
    "EnergyLoss",
    "ForceLoss",
    "VirialLoss",
    "energy_error",
    "force_error",
    "virial_error",
]
