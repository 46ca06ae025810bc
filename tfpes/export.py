"""Potentials as TensorFlow SavedModels that run without tfpes and Keras."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

import tfpes
from tfpes.elements import SYMBOLS

if TYPE_CHECKING:
    from tfpes.models import Potential

FORMAT_VERSION = 1
"""Of the signatures and the metadata; readers refuse a newer one."""

INPUT_SIGNATURE = {
    "positions": tf.TensorSpec((None, 3), tf.float32, name="positions"),
    "atomic_numbers": tf.TensorSpec((None,), tf.int32, name="atomic_numbers"),
    "structure_index": tf.TensorSpec((None,), tf.int32, name="structure_index"),
    "cell": tf.TensorSpec((None, 3, 3), tf.float32, name="cell"),
    "edge_index": tf.TensorSpec((2, None), tf.int32, name="edge_index"),
    "edge_shift": tf.TensorSpec((None, 3), tf.float32, name="edge_shift"),
}
"""Any number of atoms, edges and structures."""


def export_potential(
    potential: Potential, filepath: str | os.PathLike[str], *, verbose: bool = False
) -> None:
    """Write a SavedModel with the weights, the statistics and what describes them.

    It has two functions:

    - ``serve(inputs)``: the inputs of :class:`tfpes.models.Potential` to ``energy``
      (S,) float64 eV, ``forces`` (A, 3) eV/Å and ``virial`` (S, 3, 3) float64 eV;
    - ``metadata()``: ``format_version``, ``tfpes_version``, ``cutoff`` (Å),
      ``elements`` (symbols), ``energy_unit``, ``length_unit``.

    The folder appears complete or not at all.

    Args:
        potential: with an adapted normalization; its network tells its ``cutoff``.
        filepath: a folder; an earlier SavedModel there is replaced.
        verbose: let Keras describe the endpoints.

    Raises:
        ValueError: if the network has no ``cutoff``.
        RuntimeError: if the normalization has no statistics.
        FileExistsError: if something else than a SavedModel is there.
    """
    potential.normalization.require_adapted()
    cutoff = getattr(potential.network, "cutoff", None)
    if cutoff is None:
        raise ValueError(
            "A network tells the radius of its neighbour lists as `network.cutoff`, "
            "which the exported model needs. Received: "
            f"{type(potential.network).__name__} without it. Set `network.cutoff`."
        )
    path = pathlib.Path(filepath)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise FileExistsError(
            "`export` writes a new folder or replaces a SavedModel. Received: "
            f"{str(path)!r}, which is something else. Choose another path."
        )
    potential.build()
    elements = np.flatnonzero(potential.normalization.seen.numpy())
    described = {
        "format_version": tf.constant(FORMAT_VERSION),
        "tfpes_version": tf.constant(tfpes.__version__),
        "cutoff": tf.constant(cutoff, tf.float64),
        "elements": tf.constant([SYMBOLS[z] for z in elements]),
        "energy_unit": tf.constant("eV"),
        "length_unit": tf.constant("Angstrom"),
    }

    def serve(inputs: dict[str, Any]) -> dict[str, Any]:
        return potential.evaluate_inputs(inputs, compute_virial=True)

    def metadata() -> dict[str, Any]:
        return {name: tf.identity(value) for name, value in described.items()}

    archive = keras.export.ExportArchive()
    archive.track(potential)
    archive.add_endpoint("serve", serve, input_signature=[INPUT_SIGNATURE])
    archive.add_endpoint("metadata", metadata, input_signature=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as room:
        complete = pathlib.Path(room) / path.name
        archive.write_out(complete, verbose=verbose)
        if path.exists():
            shutil.move(path, pathlib.Path(room) / "replaced")
        os.replace(complete, path)
