"""Saved potentials: loading them, predictions, an ASE calculator."""

from tfpes.inference.calculator import Calculator
from tfpes.inference.loading import LoadedPotential, load_potential
from tfpes.inference.predictions import Predictions, compositions, predict

__all__ = [
    "Calculator",
    "LoadedPotential",
    "Predictions",
    "compositions",
    "load_potential",
    "predict",
]
