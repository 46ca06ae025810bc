"""Standardized losses for training potential energy surfaces in Keras."""

import importlib.metadata
import importlib.util

__version__ = importlib.metadata.version("tfpes")

__all__ = [
    "Calculator",
    "callbacks",
    "data",
    "evaluate",
    "layers",
    "losses",
    "metrics",
    "models",
    "statistics",
    "targets",
]

from tfpes import statistics

# `tfpes.statistics` works without TensorFlow. The rest is imported at once where it
# can be: Keras finds the classes of a `.keras` file only after they are registered.
if importlib.util.find_spec("tensorflow") is not None:
    from tfpes import callbacks, data, layers, losses, metrics, models, targets
    from tfpes.evaluation import evaluate
    from tfpes.inference import Calculator
