"""Potentials as TensorFlow SavedModels that run without tfpes and Keras."""

import importlib.metadata
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from tfpes.elements import SYMBOLS
from tfpes.files import replacing_folder
from tfpes.statistics.standardize import NAMES
from tfpes.targets import Tensor

FORMAT_VERSION = 1
"""Of the signatures and the metadata; readers refuse a newer one."""

METADATA = (
    "format_version",
    "tfpes_version",
    "cutoff",
    "elements",
    "dtype",
    "energy_unit",
    "length_unit",
    *NAMES,
)
"""Names of what ``metadata()`` tells."""

LENGTHS = ("positions", "cell", "edge_shift")
"""Names of the inputs that are not integers."""


def input_signature(dtype: str) -> dict[str, tf.TensorSpec]:
    """Describe the inputs: any number of atoms, edges and structures.

    Args:
        dtype: of lengths.
    """
    shapes = {
        "positions": (None, 3),
        "atomic_numbers": (None,),
        "structure_index": (None,),
        "cell": (None, 3, 3),
        "edge_index": (2, None),
        "edge_shift": (None, 3),
    }
    return {
        name: tf.TensorSpec(shape, dtype if name in LENGTHS else "int32", name=name)
        for name, shape in shapes.items()
    }


def export_potential(
    potential: keras.Model, filepath: str | os.PathLike[str], *, verbose: bool = False
) -> None:
    """Write a SavedModel with the weights, the statistics and what describes them.

    It has two functions:

    - ``serve(inputs)``: the inputs of :class:`tfpes.models.Potential` to ``energy``
      (S,) float64 eV, ``forces`` (A, 3) eV/Å and ``virial`` (S, 3, 3) float64 eV;
    - ``metadata()``: ``format_version``, ``tfpes_version``, ``cutoff`` (Å),
      ``elements`` (symbols), ``dtype`` (of ``positions``, ``cell``, ``edge_shift``
      and ``forces``), ``energy_unit``, ``length_unit``, and the statistics, (119,)
      float64 indexed by atomic number: ``energy_mean``, ``energy_variance``,
      ``force_scale``, ``pressure_mean``, ``pressure_scale``, ``virial_scale``,
      ``seen``, and one number each: ``collective_variance``,
      ``collective_pressure_variance``, ``collective_virial_variance``.

    The folder appears complete or not at all: if anything fails, an earlier
    SavedModel stays as it was.

    Args:
        potential: a :class:`tfpes.models.Potential` with an adapted normalization,
            whose network tells its ``cutoff``.
        filepath: a folder; an earlier SavedModel there is replaced.
        verbose: let Keras describe the endpoints.

    Raises:
        ValueError: if the network has no ``cutoff``.
        RuntimeError: if the normalization has no statistics.
        FileExistsError: if something else than a SavedModel is there.
    """
    potential.normalization.require_adapted()
    cutoff = network_cutoff(potential)
    path = pathlib.Path(filepath)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "`export` writes a new folder or replaces a SavedModel. Received: "
            f"{str(path)!r}, which is something else. Choose another path."
        )
    elements = np.flatnonzero(potential.normalization.seen.numpy())
    dtype = geometry_dtype(potential)
    described = {
        "format_version": tf.constant(FORMAT_VERSION),
        "tfpes_version": tf.constant(importlib.metadata.version("tfpes")),
        "cutoff": tf.constant(cutoff, tf.float64),
        "elements": tf.constant([SYMBOLS[z] for z in elements]),
        "dtype": tf.constant(dtype),
        "energy_unit": tf.constant("eV"),
        "length_unit": tf.constant("Angstrom"),
        **{
            name: tf.constant(value)
            for name, value in potential.normalization.statistics.items()
        },
    }

    def serve(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return potential.evaluate_inputs(inputs, compute_virial=True)

    def metadata() -> dict[str, Tensor]:
        return {name: tf.identity(value) for name, value in described.items()}

    archive = keras.export.ExportArchive()
    archive.track(potential)
    archive.add_endpoint("serve", serve, input_signature=[input_signature(dtype)])
    archive.add_endpoint("metadata", metadata, input_signature=[])
    with replacing_folder(path) as folder:
        archive.write_out(folder, verbose=verbose)


def network_cutoff(potential: keras.Model) -> float:
    """Return the radius of the neighbour lists of a potential, Å.

    Raises:
        ValueError: if its network does not tell it.
    """
    cutoff = getattr(potential.network, "cutoff", None)
    if cutoff is None:
        raise ValueError(
            "A network tells the radius of its neighbour lists as `network.cutoff`, "
            "without which none can be made. Received: "
            f"{type(potential.network).__name__} without it. Set `network.cutoff`."
        )
    return float(cutoff)


def geometry_dtype(potential: keras.Model) -> str:
    """Return the dtype of positions and forces, which half precision never is."""
    return "float64" if potential.compute_dtype == "float64" else "float32"
