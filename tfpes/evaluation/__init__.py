"""Predictions and errors of a potential on labelled structures."""

from tfpes.evaluation.comparison import Comparison
from tfpes.evaluation.errors import Errors, size_bins
from tfpes.evaluation.predictions import Predictions, compositions, predict
from tfpes.evaluation.result import Evaluation, evaluate

__all__ = [
    "Comparison",
    "Errors",
    "Evaluation",
    "Predictions",
    "compositions",
    "evaluate",
    "predict",
    "size_bins",
]
