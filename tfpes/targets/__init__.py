"""The wire format of labels.

Keras hands a loss only ``y_true[key]`` and ``y_pred[key]``. A target therefore
carries what its loss must know about its atoms in extra columns of one tensor:

========  ====================  ==========================================
key       tensor                columns
========  ====================  ==========================================
energy    (S, 2 + 119) float64  energy, low part, then composition
virial    (S, 9 + 119) float64  row-major virial, then composition
forces    (A, 3 + 2) float32    Fx Fy Fz, atomic number, structure index
forces    (B, N, 4) float32     the same, dense; the row is the structure
========  ====================  ==========================================

The low part of an energy is what float32 would lose of it: Keras casts the labels of a
``fit`` on NumPy arrays, and energies survive that.

A label that is NaN is not there; padding, Z = 0, has none. Only this package knows the
layout and this rule.
"""

from tfpes.targets.dense import Tensor, flat, unflat
from tfpes.targets.pack import pack
from tfpes.targets.packing import (
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
    "flat",
    "labelled",
    "pack",
    "row_weights",
    "split_atom_target",
    "split_structure_target",
    "structure_target",
    "unflat",
]
