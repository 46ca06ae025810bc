"""Predictions and errors of a potential on labelled structures."""

from tfpes.evaluation.comparison import Comparison
from tfpes.evaluation.errors import Errors
from tfpes.evaluation.groups import size_bins
from tfpes.evaluation.result import Evaluation, evaluate
from tfpes.inference import Predictions, compositions, predict

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
