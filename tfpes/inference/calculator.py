"""An ASE calculator that runs saved potentials."""

import os
from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from ase import Atoms
from ase.calculators.calculator import Calculator as ASECalculator
from ase.calculators.calculator import all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from tfpes.data import read
from tfpes.data.labels import has_volume
from tfpes.data.neighbours import cells_apart
from tfpes.data.pipeline import pad, padding_values
from tfpes.data.verlet_list import VerletList
from tfpes.elements import NUMBER_OF_COLUMNS
from tfpes.inference.loading import load_potential
from tfpes.inference.predictions import arrays, predict
from tfpes.inference.requirements import require_elements
from tfpes.models.export import LENGTHS, input_signature


class Calculator(ASECalculator):
    """Energy, forces and stress of any ASE ``Atoms`` with a potential.

    It keeps a neighbour list (:class:`tfpes.data.VerletList`), which changes no
    result. Atoms and edges are padded to sizes with room to move, so that XLA compiles
    once for a system and not anew as atoms move.

    Args:
        potential: a ``.keras`` file, a SavedModel, the folder of a run of
            ``tfpes train``, a :class:`tfpes.models.Potential`, or any other Keras model
            from the inputs of a batch to ``energy`` and ``forces`` (and ``virial``,
            without which there is no stress).
        cutoff: radius of the neighbour lists, Å, for a Keras model that does not tell.
        skin: by how much the neighbour list exceeds the cutoff, Å.

    Attributes:
        cutoff: of the potential, Å.
        elements: symbols of the elements that it was trained on; none if unknown.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: if it is damaged, not one of tfpes, or of a newer format; for a
            Keras model without a cutoff.

    Calculating raises a ValueError for elements that the model was not trained on,
    positions that are not finite, and atoms on top of each other; and a
    FloatingPointError if the result is not finite. The stress, ASE's sign and order,
    needs three periodic directions.

    Example:
        >>> calculator = Calculator("runs/alloys-1")  # doctest: +SKIP
        >>> atoms.calc = calculator  # doctest: +SKIP
        >>> atoms.get_potential_energy()  # doctest: +SKIP
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
    ]

    def __init__(
        self,
        potential: str | os.PathLike[str] | keras.Model,
        *,
        cutoff: float | None = None,
        skin: float = 0.5,
    ) -> None:
        """Load the model."""
        super().__init__()
        self.potential = load_potential(potential, cutoff)
        self.cutoff = self.potential.cutoff
        self.elements = self.potential.elements
        self._neighbours = VerletList(self.cutoff, skin)
        self._room = {"atoms": 0, "edges": 0}
        # XLA compiles for each size, which pays from the second time on.
        signature = [input_signature(self.potential.dtype)]
        self._run = tf.function(
            self.potential,
            jit_compile=self.potential.jit_compile,
            input_signature=signature,
        )
        self._run_once = tf.function(self.potential, input_signature=signature)
        self._sizes: set[tuple[int, int]] = set()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Compute all properties; ASE calls this when something has changed."""
        super().calculate(atoms, properties, system_changes)
        if "numbers" in system_changes:
            self._require_elements([self.atoms])
        inputs = self._inputs(self.atoms)
        size = (len(inputs["positions"]), len(inputs["edge_shift"]))
        run = self._run if size in self._sizes else self._run_once
        self._sizes.add(size)
        outputs = _outputs(run(inputs), len(inputs["cell"]), size[0])
        energy, virial = float(outputs["energy"][0]), outputs["virial"]
        forces = outputs["forces"][: len(self.atoms)]
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise FloatingPointError(
                "Energies and forces must be finite. Received: others, for a structure "
                f"of {len(self.atoms)} atoms. It is far from what the potential was "
                "trained on, or the training failed."
            )
        self.results = _results(self.atoms, energy, forces, virial[0])

    def predict(
        self, images: Iterable[Atoms], batch_size: int = 16, *, verbose: bool = False
    ) -> list[dict[str, Any]]:
        """Evaluate many structures, which is faster in batches than one by one.

        Args:
            images: structures; their own calculators are not used.
            batch_size: structures at a time.
            verbose: show progress in a terminal.

        Returns:
            For each structure, in their order, what this calculator would have in
            ``results``: ``energy``, ``free_energy``, ``forces`` and ``stress``.

        Raises:
            ValueError: as for a single structure; the message names it.
        """
        images = list(images)
        self._require_elements(images)
        structures = read(
            images,
            self.cutoff,
            energy_key=None,
            forces_key=None,
            stress_key=None,
            virial_key=None,
            verbose=verbose,
        )
        predictions = predict(
            lambda inputs: self._run(self.potential.cast(inputs)),
            structures,
            batch_size,
            verbose,
        )
        found = _complete(vars(predictions), len(images))
        columns = (
            found["energy"].tolist(),
            np.split(found["forces"], structures.atom_offsets[1:-1]),
            found["virial"],
        )
        return list(map(_results, images, *columns))

    def _require_elements(self, images: list[Atoms]) -> None:
        counts = [np.bincount(a.numbers, minlength=NUMBER_OF_COLUMNS) for a in images]
        require_elements(self.potential, np.reshape(counts, (-1, NUMBER_OF_COLUMNS)))

    def _inputs(self, atoms: Atoms) -> dict[str, NDArray]:
        """Return one structure, and one padding structure."""
        count = len(atoms)
        if not count:
            raise ValueError("A structure needs at least one atom. Received: none.")
        pairs, shift = self._neighbours.edges(atoms)
        cells = cells_apart(atoms)
        if cells.any():
            shift = shift + cells[pairs[:, 1]] - cells[pairs[:, 0]]
        more_atoms = self._reserve("atoms", count + 1) - count
        more_edges = self._reserve("edges", len(pairs)) - len(pairs)
        padding = padding_values(self.cutoff)
        cell = atoms.cell.array * atoms.pbc[:, None]
        positions = atoms.positions - cells @ cell
        positions = positions - positions.mean(axis=0)
        inputs = {
            "positions": pad(positions, padding["positions"], more_atoms),
            "atomic_numbers": pad(atoms.numbers, padding["atomic_numbers"], more_atoms),
            "structure_index": np.repeat([0, 1], [count, more_atoms]),
            "cell": pad(cell[None], padding["cell"], 1),
            "edge_index": pad(pairs, count + more_atoms - 1, more_edges).T,
            "edge_shift": pad(shift, padding["edge_shift"], more_edges),
        }
        lengths = dict.fromkeys(LENGTHS, self.potential.dtype)
        return {
            name: values.astype(lengths.get(name, "int32"))
            for name, values in inputs.items()
        }

    def _reserve(self, kind: str, needed: int) -> int:
        """Return a padded size: the last one as long as it fits and is not far off."""
        if not needed <= self._room[kind] <= 1.5 * needed + 16:
            # Sizes are rounded to few different ones: going through many structures,
            # XLA compiles again only for those of a new size.
            wanted = needed if kind == "atoms" else int(1.05 * needed) + 1
            step = 2 ** max(wanted.bit_length() - 4, 0)
            self._room[kind] = -(-wanted // step) * step
        return self._room[kind]


def _outputs(outputs: Any, num_structures: int, num_atoms: int) -> dict[str, Any]:
    keys = ("energy", "forces", "virial")
    found = arrays(outputs, num_structures, num_atoms, keys)
    return _complete(found, num_structures)


def _complete(found: dict[str, Any], num_structures: int) -> dict[str, Any]:
    """Return outputs of a model, with None for virials that it does not have."""
    names = [name for name, value in found.items() if value is not None]
    if not {"energy", "forces"} <= set(names):
        raise ValueError(
            "A calculator needs a model with the outputs 'energy' and 'forces'. "
            f"Received: {names}. Return the missing one, or wrap the network: "
            "`tfpes.models.Potential(network, normalization)`."
        )
    virial = found.get("virial")
    return {**found, "virial": [None] * num_structures if virial is None else virial}


def _results(
    atoms: Atoms, energy: float, forces: NDArray, virial: NDArray | None
) -> dict[str, Any]:
    """Return results as ASE wants them; a stress needs a volume."""
    results = {"energy": energy, "free_energy": energy, "forces": forces}
    if virial is not None and has_volume(atoms):
        stress = -virial / atoms.get_volume()
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results
