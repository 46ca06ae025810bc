"""Statistics of a data set: sufficient statistics, estimators and their report.

NumPy and SciPy only; nothing here needs TensorFlow.
"""

from tfpes.statistics.fit.energy import fit_energy
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit, LawFit, ScaleFit
from tfpes.statistics.fit.scales import fit_forces, fit_virial, virial_mean_square
from tfpes.statistics.report.report import Report, make_report
from tfpes.statistics.tables.atoms import AtomicTable
from tfpes.statistics.tables.compositions import CompositionTable

__all__ = [
    "AtomicTable",
    "CompositionTable",
    "EnergyFit",
    "FitOptions",
    "LawFit",
    "Report",
    "ScaleFit",
    "fit_energy",
    "fit_forces",
    "fit_virial",
    "make_report",
    "virial_mean_square",
]
