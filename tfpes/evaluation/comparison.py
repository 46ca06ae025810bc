"""Labels beside predictions, for structures in memory or batches of any origin."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.inference.predictions import Model, arrays, predict, runner
from tfpes.inference.requirements import compositions, require_elements
from tfpes.layers import PESNormalization
from tfpes.layers.batches import isolated_atoms
from tfpes.losses import energy_error, force_error, virial_error
from tfpes.targets import (
    Tensor,
    atom_target,
    composition,
    flat,
    split_atom_target,
    split_structure_target,
    structure_target,
)

_STANDARDIZED: dict[str, Callable] = {
    "energy": energy_error,
    "forces": force_error,
    "virial": virial_error,
}
_Arrays = dict[str, NDArray]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Labels and predictions of S structures with A atoms; a missing label is NaN.

    A label that the model has no prediction of is NaN, too.

    Attributes:
        targets: packed labels ``energy``, ``forces`` and ``virial``, all three; see
            :mod:`tfpes.targets`.
        outputs: the predictions, (S,), (A, 3) and (S, 3, 3).
        isolated: (S,) bool, which structures are one atom without neighbours.
        config_type: (S,) strings, or None.
        trained_on: (S,) bool, which structures the model was trained on, or None.
        normalization: whose statistics standardize errors, or None.
    """

    targets: _Arrays
    outputs: _Arrays
    isolated: NDArray[np.bool_]
    config_type: NDArray[np.str_] | None = None
    trained_on: NDArray[np.bool_] | None = None
    normalization: PESNormalization | None = None

    @classmethod
    def of_structures(cls, structures: Structures, outputs: _Arrays) -> "Comparison":
        """Compare predictions in the order of the structures with their labels."""
        labels = {key: getattr(structures, key) for key in _STANDARDIZED}
        atoms = structures.atomic_numbers, structures.structure_index
        return cls(
            *_pack(compositions(structures), *atoms, labels, outputs),
            structures.isolated_atoms,
            structures.config_type,
        )

    @property
    def composition(self) -> NDArray[np.float64]:
        """Atoms of each element in each structure, (S, 119)."""
        return split_structure_target(self.targets["energy"])[1]

    @property
    def num_atoms(self) -> NDArray[np.float64]:
        """Atoms in each structure, (S,)."""
        return self.composition.sum(axis=1)

    @property
    def atomic_numbers(self) -> NDArray[np.int32]:
        """Of the atoms, (A,)."""
        return split_atom_target(self.targets["forces"])[1]

    @property
    def structure_index(self) -> NDArray[np.int32]:
        """The structure of each atom, (A,)."""
        return split_atom_target(self.targets["forces"])[2]

    @property
    def energy(self) -> tuple[NDArray, NDArray]:
        """Labels and predictions, (S,) each, eV."""
        return split_structure_target(self.targets["energy"])[0], self.outputs["energy"]

    @property
    def forces(self) -> tuple[NDArray, NDArray]:
        """Labels and predictions, (A, 3) each, eV/Å."""
        return split_atom_target(self.targets["forces"])[0], self.outputs["forces"]

    @property
    def virial(self) -> tuple[NDArray, NDArray]:
        """Labels and predictions, (S, 3, 3) each, eV."""
        return split_structure_target(self.targets["virial"])[0], self.outputs["virial"]

    @property
    def energy_baseline(self) -> NDArray[np.float64] | None:
        """``Σ n_z μ_z``, (S,) eV; None without statistics of energies."""
        if self.normalization is None or not self._knows("energy"):
            return None
        return self.normalization.energy_baseline(self.composition).numpy()

    def standardized_errors(self, key: str) -> tuple[NDArray, NDArray]:
        """Return ``(pred - true) / scale`` and where there is one, 0 elsewhere.

        There is none without a label, or without statistics of such labels.

        Args:
            key: ``"energy"`` (S,), ``"forces"`` (A, 3) or ``"virial"`` (S, 6).
        """
        target, output = self.targets[key], self.outputs[key]
        if self.normalization is None or not self._knows(key):
            return np.zeros(output.shape), np.zeros(output.shape, bool)
        error, present = _STANDARDIZED[key](
            self.normalization, target, output, lambda true, pred: pred - true
        )
        return error.numpy(), present.numpy()

    def with_scales(self, normalization: PESNormalization) -> "Comparison":
        """Add the scales of the labels that the normalization knows."""
        return dataclasses.replace(self, normalization=normalization)

    def has_labels(self) -> bool:
        """Whether there is anything to compare."""
        pairs = (self.energy, self.forces, self.virial)
        return any(bool(np.isfinite(true).any()) for true, _ in pairs)

    def _knows(self, key: str) -> bool:
        if self.normalization is None:
            return False
        try:
            self.normalization.require_adapted(key)
        except RuntimeError:
            return False
        return True


def compare_structures(
    model: Model, structures: Structures, batch_size: int
) -> Comparison:
    """Predict structures; see :func:`tfpes.evaluate`."""
    found = dataclasses.asdict(predict(model, structures, batch_size))
    outputs = {key: values for key, values in found.items() if values is not None}
    return Comparison.of_structures(structures, outputs)


def compare_batches(model: Model, dataset: Iterable) -> Comparison:
    """Predict batches ``(inputs, targets)``; see :func:`tfpes.evaluate`."""
    if getattr(dataset, "cardinality", int)() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`evaluate` needs a dataset that ends. Received: one that is repeated for "
            "ever. Leave `repeat()` out, or `take` some batches."
        )
    run = runner(model)
    parts: list[tuple[_Arrays, _Arrays]] = []
    alone: list[NDArray[np.bool_]] = []
    first = 0
    for batch in dataset:
        if not isinstance(batch, tuple) or not isinstance(batch[1], dict):
            raise ValueError(
                "`evaluate` takes batches `(inputs, targets)` whose targets are a dict "
                f"with 'energy', 'forces' or 'virial'. Received: {type(batch)}. Make "
                "them with `Structures.batches`, or pack labels with `tfpes.targets`."
            )
        part, isolated = _compare_batch(run, model, batch[0], batch[1], first)
        parts.append(part)
        alone.append(isolated)
        first += len(isolated)
    if not parts:
        raise ValueError(
            "`evaluate` needs at least one batch. Received: an empty dataset."
        )
    targets, outputs = (
        {key: np.concatenate([part[key] for part in each]) for key in _STANDARDIZED}
        for each in zip(*parts, strict=True)
    )
    return Comparison(targets, outputs, np.concatenate(alone))


def _compare_batch(
    run: Callable,
    model: Model,
    inputs: dict[str, Tensor],
    packed: dict[str, Tensor],
    first: int,
) -> tuple[tuple[_Arrays, _Arrays], NDArray[np.bool_]]:
    """Compare one batch, without its padding, and find isolated atoms.

    Args:
        run: the model.
        model: to ask for the elements that it knows.
        inputs: of the model.
        packed: targets.
        first: the number of structures before.
    """
    packed = {key: np.asarray(value) for key, value in packed.items()}
    if not packed.keys() & _STANDARDIZED.keys():
        raise ValueError(
            "`evaluate` needs targets 'energy', 'forces' or 'virial'. Received: "
            f"{sorted(packed)}."
        )
    labels = {}
    numbers, index = np.zeros((2, 0), np.int32)
    if "forces" in packed:
        labels["forces"], numbers, index = split_atom_target(flat(packed["forces"])[0])
    counts = None
    for key in packed.keys() & {"energy", "virial"}:
        labels[key], counts = split_structure_target(np.float64(packed[key]))
    if counts is None:
        size = index.max(initial=-1) + 1
        counts = np.asarray(composition(numbers, index, size))
    require_elements(model, counts)
    outputs = run(inputs)
    if isinstance(outputs, dict) and {"forces"} <= packed.keys() & outputs.keys():
        forces = flat(packed["forces"], outputs["forces"])[1]
        outputs = {**outputs, "forces": forces}
    outputs = arrays(outputs, len(counts), len(numbers), packed)
    atoms, real = numbers > 0, counts.sum(axis=1) > 0
    place = np.cumsum(real) - 1 + first
    kept = {"energy": real, "forces": atoms, "virial": real}
    pair = _pack(
        counts[real],
        numbers[atoms],
        place[index[atoms]],
        {key: values[kept[key]] for key, values in labels.items()},
        {key: values[kept[key]] for key, values in outputs.items()},
    )
    return pair, isolated_atoms(inputs, counts.sum(axis=1))[real]


def _pack(
    counts: NDArray, numbers: NDArray, index: NDArray, labels: _Arrays, outputs: _Arrays
) -> tuple[_Arrays, _Arrays]:
    """Return packed targets and outputs of all keys, NaN for what is not there."""
    of_structures, of_atoms = (counts,), (numbers, index)
    targets, found = {}, {}
    for key, pack, shape, rows in (
        ("energy", structure_target, (len(counts),), of_structures),
        ("forces", atom_target, (len(numbers), 3), of_atoms),
        ("virial", structure_target, (len(counts), 3, 3), of_structures),
    ):
        there = key in labels and key in outputs
        values = labels[key] if there else np.full(shape, np.nan)
        targets[key] = np.asarray(pack(values, *rows))
        found[key] = outputs[key] if there else np.zeros(shape)
    return targets, found
