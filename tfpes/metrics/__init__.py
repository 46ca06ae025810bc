"""Errors in physical units and in units of the spread of the labels.

All are exact over batches, leave out labels that are NaN and padding, and take sample
weights where they are compiled as ``weighted_metrics``.
"""

from tfpes.metrics.forces import ForceCosine, ForceMAE, ForceRMSE, MaxForceError
from tfpes.metrics.standardized import StandardizedRMSE
from tfpes.metrics.structure_errors import EnergyMAE, EnergyRMSE, VirialMAE, VirialRMSE
from tfpes.metrics.within_thresholds import EFwT

__all__ = [
    "EFwT",
    "EnergyMAE",
    "EnergyRMSE",
    "ForceCosine",
    "ForceMAE",
    "ForceRMSE",
    "MaxForceError",
    "StandardizedRMSE",
    "VirialMAE",
    "VirialRMSE",
]
