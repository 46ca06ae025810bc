"""Statistics of a data set: sufficient statistics, estimators and their report.

NumPy and SciPy only; nothing here needs TensorFlow.
"""

from tfpes.statistics.atomic_table import AtomicTable
from tfpes.statistics.composition_table import CompositionTable
from tfpes.statistics.energy import fit_energy
from tfpes.statistics.fits import EnergyFit, LawFit, ScaleFit
from tfpes.statistics.report import Report, make_report
from tfpes.statistics.scales import fit_forces, fit_virial, virial_mean_square

__all__ = [
    "AtomicTable",
    "CompositionTable",
    "EnergyFit",
    "LawFit",
    "Report",
    "ScaleFit",
    "fit_energy",
    "fit_forces",
    "fit_virial",
    "make_report",
    "virial_mean_square",
]
