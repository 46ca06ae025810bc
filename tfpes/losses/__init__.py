"""Losses of standardized labels."""

from tfpes.losses.errors import energy_error, force_error
from tfpes.losses.losses import EnergyLoss, ForceLoss

__all__ = ["EnergyLoss", "ForceLoss", "energy_error", "force_error"]
