"""What a data set holds, what losses would weigh in it, and how a model fails on it."""

from tfpes.diagnostics.diagnosis import Diagnosis, diagnose
from tfpes.diagnostics.outliers import KINDS, Outlier
from tfpes.diagnostics.page import to_html

__all__ = ["KINDS", "Diagnosis", "Outlier", "diagnose", "to_html"]
