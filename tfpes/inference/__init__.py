"""Saved potentials: loading them, predictions, an ASE calculator."""

from tfpes.inference.calculator import Calculator
from tfpes.inference.loading import LoadedPotential, load_potential
from tfpes.inference.predictions import Predictions, predict
from tfpes.inference.requirements import (
    compositions,
    require_cutoff,
    require_elements,
)

__all__ = [
    "Calculator",
    "LoadedPotential",
    "Predictions",
    "compositions",
    "load_potential",
    "predict",
    "require_cutoff",
    "require_elements",
]
