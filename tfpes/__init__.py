"""Standardized losses for training potential energy surfaces in Keras."""

import importlib.metadata
import importlib.util
import os
import sys

__version__ = importlib.metadata.version("tfpes")

__all__ = [
    "Calculator",
    "callbacks",
    "data",
    "distribute",
    "evaluate",
    "layers",
    "losses",
    "metrics",
    "models",
    "predict",
    "statistics",
    "targets",
]

if sys.orig_argv[1:3] == ["-m", "tfpes"]:
    # The command: this package is imported before its `__main__`.
    from tfpes_command import load_tensorflow

    load_tensorflow()

from tfpes import statistics

# `tfpes.statistics` works without TensorFlow. The rest is imported at once where it
# can be: Keras finds the classes of a `.keras` file only after they are registered.
if importlib.util.find_spec("tensorflow") is not None:
    try:
        from keras.config import backend

        _backend = backend()
    except ImportError:  # of a backend that is not installed
        _backend = os.environ.get("KERAS_BACKEND", "none")
    if _backend != "tensorflow":
        raise ImportError(
            "tfpes runs in Keras on TensorFlow. Received: Keras with the backend "
            f"'{_backend}'. Set KERAS_BACKEND=tensorflow, or the backend in "
            "~/.keras/keras.json, before Keras is imported."
        )
    from tfpes import (
        callbacks,
        data,
        distribute,
        layers,
        losses,
        metrics,
        models,
        targets,
    )
    from tfpes.evaluation import evaluate, predict
    from tfpes.inference import Calculator
