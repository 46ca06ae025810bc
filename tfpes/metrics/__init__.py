"""Metrics in physical units."""

from tfpes.metrics.errors import EnergyMAE, EnergyRMSE, ForceMAE, ForceRMSE

__all__ = ["EnergyMAE", "EnergyRMSE", "ForceMAE", "ForceRMSE"]
