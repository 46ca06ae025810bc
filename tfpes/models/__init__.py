"""Potentials and networks."""

from tfpes.models.potential import Potential
from tfpes.models.schnet import SchNet

__all__ = ["Potential", "SchNet"]
