"""Predictions of a model for structures in memory."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from tfpes.data.columns import ranges
from tfpes.data.plan import Plan
from tfpes.data.structures import Structures
from tfpes.inference.loading import LoadedPotential
from tfpes.inference.requirements import require_cutoff, require_elements
from tfpes.models import Potential
from tfpes.targets import Tensor, column

Model = Callable[[dict[str, Tensor]], Any]
"""From inputs to a dict with some of ``energy``, ``forces`` and ``virial``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a potential says of structures, in their order.

    Attributes:
        energy: (S,) float64, eV; like the others, None if the model has no such output.
        forces: (A, 3) float64, eV/Å.
        virial: (S, 3, 3) float64, eV.
    """

    energy: Any
    forces: Any
    virial: Any


def predict(
    model: Model, structures: Structures, batch_size: int = 16, verbose: bool = False
) -> Predictions:
    """Evaluate a potential.

    ``keras.Model.predict`` joins padded batches, in whose order they come; this does
    not.

    Args:
        model: a :class:`tfpes.models.Potential`,
            a :class:`tfpes.inference.LoadedPotential`, or any function from inputs
            to a dict with some of ``energy``, ``forces`` and ``virial``.
        structures: with neighbour lists for the cutoff of the model.
        batch_size: structures at a time.
        verbose: show a progress bar in a terminal.

    Returns:
        The predictions, in the order of the structures.

    Raises:
        ValueError: for neighbour lists of another cutoff, elements that the
            normalization has not seen, or outputs of another shape.
    """
    require_cutoff(model, structures)
    dataset = structures.batches(batch_size, labels=(), isolated_atoms="include")
    require_elements(model, structures)
    run = runner(model)
    shapes = _shapes(len(structures), int(structures.atom_offsets[-1]))
    plan = Plan(structures.sizes, batch_size, shuffle=False)
    found: dict[str, NDArray[np.float64]] = {}
    console = Console(stderr=True)
    batches = track(
        zip(dataset, plan.epoch(), strict=True),
        description="Predicting",
        total=plan.num_batches,
        console=console,
        transient=True,
        disable=not (verbose and console.is_terminal),
    )
    for (inputs, _), picked in batches:
        atoms = ranges(structures.atom_offsets, picked)
        size = len(inputs["cell"]), len(inputs["positions"])
        for key, values in arrays(run(inputs), *size, shapes).items():
            rows = atoms if key == "forces" else picked
            whole = found.setdefault(key, np.full(shapes[key], np.nan))
            # Padding is at the end.
            whole[rows] = values[: len(rows)]
    return Predictions(**{key: found.get(key) for key in shapes})


def runner(model: Model) -> Model:
    """Return a function from inputs to outputs, compiled if the model is one."""
    # XLA compiles once for each shape; of other models the shapes are unknown.
    if isinstance(model, Potential):
        return tf.function(model, jit_compile=True)
    if isinstance(model, keras.Model | LoadedPotential):
        return tf.function(model, jit_compile=bool(model.jit_compile))
    return model


def arrays(
    outputs: Any, num_structures: int, num_atoms: int, keys: Iterable[str]
) -> dict[str, NDArray]:
    """Return outputs of a model as arrays of the right shapes, those that there are.

    Args:
        outputs: of the model.
        num_structures: S, padding included.
        num_atoms: A, padding included.
        keys: of the outputs to take.
    """
    shapes = _shapes(num_structures, num_atoms)
    if not isinstance(outputs, dict) or not outputs.keys() & shapes.keys():
        names = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
        raise ValueError(
            "A model must return a dict with the keys 'energy' and 'forces', and "
            f"optionally 'virial'. Received: {names}. Name its outputs."
        )
    found: dict[str, NDArray] = {}
    for key in keys:
        if key in outputs:
            values = column(_numbers(key, outputs[key]), tf.TensorSpec(shapes[key]))
            found[key] = values.numpy().astype(np.float64)
    return found


def _numbers(key: str, values: Any) -> Tensor:
    try:
        tensor = tf.convert_to_tensor(values)
    except (TypeError, ValueError):
        tensor = None
    if tensor is None or not (tensor.dtype.is_floating or tensor.dtype.is_integer):
        raise TypeError(
            f"The output '{key}' of a model must be a tensor of real numbers. "
            f"Received: a {type(values).__name__}"
            f"{'' if tensor is None else f' of {tensor.dtype.name}'}. Check the model."
        )
    return tensor


def _shapes(num_structures: int, num_atoms: int) -> dict[str, tuple[int, ...]]:
    return {
        "energy": (num_structures,),
        "forces": (num_atoms, 3),
        "virial": (num_structures, 3, 3),
    }
