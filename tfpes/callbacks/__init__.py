"""Keras callbacks for training potentials."""

from tfpes.callbacks.best_model import BestModel
from tfpes.callbacks.cosine_budget import CosineBudget
from tfpes.callbacks.loss_weight_schedule import LossWeightSchedule
from tfpes.callbacks.schedules import exponential, linear, step
from tfpes.callbacks.stop_on_nan import StopOnNaN

__all__ = [
    "BestModel",
    "CosineBudget",
    "LossWeightSchedule",
    "StopOnNaN",
    "exponential",
    "linear",
    "step",
]
