"""Statistics of a data set: sufficient statistics, estimators and their report.

NumPy and SciPy only; nothing here needs TensorFlow.
"""

from tfpes.statistics.fit.energy import fit_energy
from tfpes.statistics.fit.options import FitOptions
from tfpes.statistics.fit.results import EnergyFit, LawFit, ScaleFit
from tfpes.statistics.fit.scales import VirialFit, fit_forces, fit_virial, split_virial
from tfpes.statistics.report.report import Report, make_report
from tfpes.statistics.standardize import Statistics
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
    "Statistics",
    "VirialFit",
    "fit_energy",
    "fit_forces",
    "fit_virial",
    "make_report",
    "split_virial",
]
