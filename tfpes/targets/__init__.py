"""The wire format of labels.

Keras hands a loss only ``y_true[key]`` and ``y_pred[key]``. A target therefore
carries what its loss must know about its atoms in extra columns of one tensor:

========  ====================  ==========================================
key       tensor                columns
========  ====================  ==========================================
energy    (S, 2 + 119) float64  energy, low part, then composition
virial    (S, 9 + 119) float64  row-major virial, then composition
forces    (A, 3 + 2) float32    Fx Fy Fz, atomic number, structure index
========  ====================  ==========================================

The low part of an energy is what float32 would lose of it: Keras casts the labels of a
``fit`` on NumPy arrays, and energies survive that.

A label that is NaN is not there. Only this module knows the layout and this rule.
"""

from tfpes.targets.packing import (
    Tensor,
    atom_target,
    composition,
    split_atom_target,
    split_structure_target,
    structure_target,
)
from tfpes.targets.rows import column, labelled, row_weights

__all__ = [
    "Tensor",
    "atom_target",
    "column",
    "composition",
    "labelled",
    "row_weights",
    "split_atom_target",
    "split_structure_target",
    "structure_target",
]
