"""All labels of a batch in one call."""

from collections.abc import Mapping

import tensorflow as tf

from tfpes.targets.dense import Tensor
from tfpes.targets.packing import atom_target, composition, structure_target


def pack(
    *,
    atomic_numbers: Tensor,
    energy: Tensor | None = None,
    forces: Tensor | None = None,
    virial: Tensor | None = None,
    structure_index: Tensor | None = None,
    present: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the dict of targets of a batch, in a loop or in ``dataset.map``.

    Args:
        atomic_numbers: (A,) with a `structure_index`, or (B, N); 0 for padding.
        energy: (S,) or (S, 1), eV; NaN where missing, as in the others.
        forces: (A, 3) or (B, N, 3), eV/Å.
        virial: (S, 3, 3), eV.
        structure_index: (A,), the structure of each atom; None in a dense batch.
        present: where labels are, by key: flags, or weights that are not 0.

    Returns:
        Targets of the labels that are given, see :mod:`tfpes.targets`.

    Raises:
        ValueError: without labels, and for keys and shapes that do not fit.

    Example:
        >>> targets = pack(
        ...     energy=[-14.2, -6.7],
        ...     forces=[[[0.0, 0.0, 0.2], [0.0, 0.1, -0.1], [0.0, -0.1, -0.1]]] * 2,
        ...     atomic_numbers=[[8, 1, 1], [1, 1, 0]],
        ... )
        >>> {key: tuple(target.shape) for key, target in targets.items()}
        {'energy': (2, 121), 'forces': (2, 3, 4)}
    """
    labels = {"energy": energy, "forces": forces, "virial": virial}
    labels = {key: label for key, label in labels.items() if label is not None}
    present = present or {}
    if not labels or not present.keys() <= labels.keys():
        raise ValueError(
            "`pack` takes labels `energy`, `forces`, `virial`, and `present` for keys "
            f"among them. Received: labels {sorted(labels)}, present {sorted(present)}."
        )
    targets, counts = {}, None
    for key, label in labels.items():
        if key == "forces":
            rows = (atomic_numbers, structure_index)
            targets[key] = atom_target(label, *rows, present=present.get(key))
            continue
        if counts is None:
            shape = getattr(label, "shape", ()) or tf.shape(label)
            size = shape[0] or tf.shape(label)[0]
            counts = composition(atomic_numbers, structure_index, size)
        targets[key] = structure_target(label, counts, present.get(key))
    return targets
