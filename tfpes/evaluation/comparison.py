"""Labels beside predictions, for structures in memory or batches of any origin."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.inference.predictions import arrays, predict, runner
from tfpes.inference.requirements import compositions, require_elements
from tfpes.layers import PESNormalization
from tfpes.targets import split_atom_target, split_structure_target


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of S structures with A atoms; a missing label is NaN.

    A label that the model has no prediction of is NaN, too.

    Attributes:
        composition: (S, 119) float64.
        energy: labels and predictions, (S,) each, eV.
        virial: labels and predictions, (S, 3, 3) each, eV.
        forces: labels and predictions, (A, 3) each, eV/Å.
        atomic_numbers: (A,).
        structure_index: (A,), the structure of each atom.
        config_type: (S,) strings, or None.
        energy_baseline: (S,) ``Σ n_z μ_z``, eV; this and the following are None
            without a normalization, or if it has no statistics of the label.
        energy_scale: (S,), the standard deviation of the energies, eV.
        force_scale: (A,) η_z, eV/Å.
        virial_scale: (S,), eV.
    """

    composition: NDArray[np.float64]
    energy: tuple[NDArray, NDArray]
    virial: tuple[NDArray, NDArray]
    forces: tuple[NDArray, NDArray]
    atomic_numbers: NDArray[np.int32]
    structure_index: NDArray[np.int64]
    config_type: NDArray[np.str_] | None = None
    energy_baseline: NDArray[np.float64] | None = None
    energy_scale: NDArray[np.float64] | None = None
    force_scale: NDArray[np.float64] | None = None
    virial_scale: NDArray[np.float64] | None = None

    @property
    def num_atoms(self) -> NDArray[np.float64]:
        """Atoms in each structure, (S,)."""
        return self.composition.sum(axis=1)

    def with_scales(self, normalization: PESNormalization) -> "Comparison":
        """Add the scales of the labels that the normalization knows."""
        counts, changes = self.composition, {}
        if _knows(normalization, "energy"):
            changes["energy_baseline"] = normalization.energy_baseline(counts).numpy()
            changes["energy_scale"] = normalization.energy_scale(counts).numpy()
        if _knows(normalization, "forces"):
            scale = normalization.force_scale_of(self.atomic_numbers)
            changes["force_scale"] = scale.numpy()
        if _knows(normalization, "virial"):
            changes["virial_scale"] = normalization.virial_scale_of(counts).numpy()
        return dataclasses.replace(self, **changes)


def compare_structures(
    model: Any, structures: Structures, batch_size: int
) -> Comparison:
    """Predict structures; see :func:`tfpes.evaluate`."""
    found = predict(model, structures, batch_size)

    def pair(true: NDArray, pred: NDArray | None) -> tuple[NDArray, NDArray]:
        if pred is None:
            return np.full_like(true, np.nan), np.zeros_like(true)
        return true, pred

    return Comparison(
        composition=compositions(structures),
        energy=pair(structures.energy, found.energy),
        virial=pair(structures.virial, found.virial),
        forces=pair(structures.forces, found.forces),
        atomic_numbers=structures.atomic_numbers,
        structure_index=structures.structure_index,
        config_type=structures.config_type,
    )


def compare_batches(model: Any, dataset: Any) -> Comparison:
    """Predict batches ``(inputs, targets)``; see :func:`tfpes.evaluate`."""
    if getattr(dataset, "cardinality", int)() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`evaluate` needs a dataset that ends. Received: one that is repeated for "
            "ever. Leave `repeat()` out, or `take` some batches."
        )
    run = runner(model)
    parts: list[Comparison] = []
    first = 0
    for batch in dataset:
        if not isinstance(batch, tuple) or not isinstance(batch[1], dict):
            raise ValueError(
                "`evaluate` takes batches `(inputs, targets)` whose targets are a dict "
                f"with 'energy', 'forces' or 'virial'. Received: {type(batch)}. Make "
                "them with `Structures.batches`, or pack labels with `tfpes.targets`."
            )
        part = _compare_batch(run, model, batch[0], batch[1], first)
        first += len(part.composition)
        parts.append(part)
    if not parts:
        raise ValueError(
            "`evaluate` needs at least one batch. Received: an empty dataset."
        )

    def join(get: Any) -> NDArray:
        return np.concatenate([get(part) for part in parts])

    return Comparison(
        composition=join(lambda p: p.composition),
        energy=(join(lambda p: p.energy[0]), join(lambda p: p.energy[1])),
        virial=(join(lambda p: p.virial[0]), join(lambda p: p.virial[1])),
        forces=(join(lambda p: p.forces[0]), join(lambda p: p.forces[1])),
        atomic_numbers=join(lambda p: p.atomic_numbers),
        structure_index=join(lambda p: p.structure_index),
    )


def _compare_batch(
    run: Any, model: Any, inputs: Any, targets: dict[str, Any], first: int
) -> Comparison:
    """Compare one batch, without its padding.

    Args:
        run: the model.
        model: to ask for the elements that it knows.
        inputs: of the model.
        targets: packed labels.
        first: the number of structures before.
    """
    targets = {key: np.asarray(value) for key, value in targets.items()}
    if not targets.keys() & {"energy", "forces", "virial"}:
        raise ValueError(
            "`evaluate` needs targets 'energy', 'forces' or 'virial'. Received: "
            f"{sorted(targets)}."
        )
    if "forces" in targets:
        forces, numbers, index = split_atom_target(targets["forces"])
    else:
        forces, numbers, index = np.zeros((0, 3)), *np.zeros((2, 0), np.int32)
    labels = {}
    for key in targets.keys() & {"energy", "virial"}:
        labels[key], counts = split_structure_target(np.float64(targets[key]))
    if not labels:
        counts = np.zeros((index.max(initial=-1) + 1, NUMBER_OF_COLUMNS))
        np.add.at(counts, (index[numbers > 0], numbers[numbers > 0]), 1.0)
    size = len(counts)
    require_elements(model, counts)
    outputs = arrays(run(inputs), size, len(forces), targets)
    atoms, real = numbers > 0, counts.sum(axis=1) > 0
    place = np.cumsum(real) - 1 + first

    def pair(key: str, true: Any, shape: tuple, kept: NDArray) -> tuple:
        if true is None or key not in outputs:
            return np.full(shape, np.nan)[kept], np.zeros(shape)[kept]
        return true[kept], outputs[key][kept]

    return Comparison(
        composition=counts[real],
        energy=pair("energy", labels.get("energy"), (size,), real),
        virial=pair("virial", labels.get("virial"), (size, 3, 3), real),
        forces=pair("forces", forces, forces.shape, atoms),
        atomic_numbers=numbers[atoms],
        structure_index=place[index[atoms]],
    )


def _knows(normalization: PESNormalization, label: str) -> bool:
    try:
        normalization.require_adapted(label)
    except RuntimeError:
        return False
    return True


def has_labels(comparison: Comparison) -> bool:
    """Whether there is anything to compare."""
    pairs = (comparison.energy, comparison.forces, comparison.virial)
    return any(bool(np.isfinite(true).any()) for true, _ in pairs)
