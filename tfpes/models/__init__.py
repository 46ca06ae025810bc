"""Potentials and networks."""

from tfpes.models.painn import PaiNN
from tfpes.models.potential import Potential
from tfpes.models.schnet import SchNet

__all__ = ["PaiNN", "Potential", "SchNet"]
