"""Standardized losses for training potential energy surfaces in Keras."""

import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

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


def _statistics_alone() -> bool:
    """Whether it is `import tfpes.statistics` that imports this package."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame, name = caller, caller.f_locals.get("name")
        if frame.f_code.co_name == "_find_and_load" and name != __name__:
            return str(name).startswith("tfpes.statistics")
    return False


# `tfpes.statistics` works without TensorFlow, and does not load it. Otherwise all is
# imported at once where it can be: Keras finds the classes of a `.keras` file only
# after they are registered.
if _statistics_alone():

    def __getattr__(name: str) -> Any:
        """Import the rest when it is first asked for."""
        if name not in __all__:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        del globals()["__getattr__"]
        return getattr(importlib.reload(sys.modules[__name__]), name)

elif importlib.util.find_spec("tensorflow") is not None:
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
