"""An ASE calculator that runs exported potentials."""

import os
import pathlib
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from tfpes.data.neighbours import neighbour_list
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.export import FORMAT_VERSION


class Calculator(ASECalculator):
    """Energy, forces and stress of any ASE ``Atoms`` with an exported potential.

    It builds its own neighbour list. The number of edges is padded, so that XLA
    compiles once for a system and not anew as atoms move.

    Args:
        path: a SavedModel that ``Potential.export`` wrote.
        cutoff: if given, must be that of the model, Å.
        **kwargs: of ``ase.calculators.calculator.Calculator``.

    Raises:
        FileNotFoundError: if there is no SavedModel.
        ValueError: if it is not one of tfpes, of a newer format, or has another cutoff.

    Calculating raises a ValueError for elements that the model was not trained on,
    positions that are not finite, and atoms on top of each other.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cutoff: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the model."""
        super().__init__(**kwargs)
        path = pathlib.Path(path)
        if not (path / "saved_model.pb").is_file():
            raise FileNotFoundError(
                "`Calculator` needs a SavedModel written by `Potential.export`. "
                f"Received: {str(path)!r}, which is not one. Check the path; a "
                "`.keras` file is exported with "
                "`keras.models.load_model(file).export(folder)`."
            )
        try:
            self._model = tf.saved_model.load(str(path))
        except Exception as error:
            raise ValueError(
                "A SavedModel must be complete. Received: "
                f"{str(path)!r}, which TensorFlow cannot load "
                f"({type(error).__name__}). Export the model again."
            ) from error
        if not hasattr(self._model, "serve") or not hasattr(self._model, "metadata"):
            raise ValueError(
                "`Calculator` needs a SavedModel written by `Potential.export`. "
                f"Received: {str(path)!r}, a SavedModel of something else."
            )
        metadata = {key: v.numpy() for key, v in self._model.metadata().items()}
        if metadata["format_version"] > FORMAT_VERSION:
            raise ValueError(
                f"This version of tfpes reads models of format {FORMAT_VERSION}. "
                f"Received: format {metadata['format_version']}, written by tfpes "
                f"{metadata['tfpes_version'].decode()}. Upgrade tfpes."
            )
        self.cutoff = float(metadata["cutoff"])
        if cutoff is not None and not np.isclose(cutoff, self.cutoff):
            raise ValueError(
                f"The model's neighbour lists have a cutoff of {self.cutoff:g} Å. "
                f"Received: `cutoff={cutoff:g}`. Leave `cutoff` out."
            )
        self.elements = [symbol.decode() for symbol in metadata["elements"]]
        self._known = np.array([symbol in self.elements for symbol in SYMBOLS])
        self._run = tf.function(self._model.serve, jit_compile=True)
        self._num_edges = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Compute all properties; ASE calls this when something has changed."""
        super().calculate(atoms, properties, system_changes)
        unknown = self.atoms.numbers[~self._known[self.atoms.numbers]]
        if len(unknown):
            raise ValueError(
                f"The potential was trained on {', '.join(self.elements)}. Received: "
                f"atoms of {join_symbols(unknown)}. Train on data that contain them."
            )
        outputs = self._run(self._inputs(self.atoms))
        energy = float(outputs["energy"][0])
        forces = outputs["forces"].numpy()[:-1].astype(np.float64)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if self.atoms.pbc.all():
            stress = -outputs["virial"][0].numpy() / self.atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _inputs(self, atoms: Atoms) -> dict[str, NDArray]:
        """Return one structure, and one padding structure with a single atom."""
        pairs, shift = neighbour_list(atoms, self.cutoff)
        if len(pairs) > self._num_edges:
            # Room to move before the next compilation.
            self._num_edges = len(pairs) + len(pairs) // 10 + 16
        padding = self._num_edges - len(pairs)
        count = len(atoms)
        positions = atoms.positions - atoms.positions.mean(axis=0)
        cell = atoms.cell.array * atoms.pbc[:, None]
        return {
            "positions": np.pad(positions, ((0, 1), (0, 0))).astype(np.float32),
            "atomic_numbers": np.append(atoms.numbers, 0).astype(np.int32),
            "structure_index": np.append(np.zeros(count), 1).astype(np.int32),
            # Padding edges join the padding atom to its image beyond the cutoff.
            "cell": np.stack([cell, 2 * self.cutoff * np.eye(3)]).astype(np.float32),
            "edge_index": np.pad(
                pairs.T.astype(np.int32), ((0, 0), (0, padding)), constant_values=count
            ),
            "edge_shift": np.pad(
                shift, ((0, padding), (0, 0)), constant_values=1
            ).astype(np.float32),
        }
