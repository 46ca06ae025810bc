"""Predictions and errors of a potential on labelled structures."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from tfpes.data.pipeline import ordered_batches
from tfpes.data.structures import Structures
from tfpes.elements import SYMBOLS


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a potential says of structures, in their order.

    Attributes:
        energy: (S,) float64, eV.
        forces: (A, 3) float32, eV/Å.
        baseline: (S,) float64, ``Σ n_z μ_z`` of the normalization, eV.
        scale: (S,) float64, the standard deviation of the energies, eV.
    """

    energy: NDArray[np.float64]
    forces: NDArray[np.float32]
    baseline: NDArray[np.float64]
    scale: NDArray[np.float64]


def predict(model: Any, structures: Structures, batch_size: int = 16) -> Predictions:
    """Evaluate a potential.

    Args:
        model: a :class:`tfpes.models.Potential`.
        structures: with neighbour lists for the cutoff of the model.
        batch_size: structures at a time.

    Returns:
        The predictions, in the order of the structures.

    Raises:
        ValueError: for elements that the normalization has not seen.
    """
    dataset, grouping = ordered_batches(structures, batch_size)
    run = tf.function(model, jit_compile=True)
    energy = np.zeros(len(structures))
    forces = np.zeros(structures.positions.shape, np.float32)
    for (inputs, _), row in zip(dataset, grouping, strict=True):
        picked = row[row >= 0]
        outputs = run(inputs)
        energy[picked] = outputs["energy"].numpy()[: len(picked)]
        atoms = np.isin(structures.structure_index, picked)
        # Rows are ascending, as atoms are.
        forces[atoms] = outputs["forces"].numpy()[: np.count_nonzero(atoms)]
    composition = compositions(structures)
    normalization = model.normalization
    return Predictions(
        energy=energy,
        forces=forces,
        baseline=normalization.energy_baseline(composition).numpy(),
        scale=normalization.energy_scale(composition).numpy(),
    )


def compositions(structures: Structures) -> NDArray[np.float64]:
    """Count the atoms of each element in each structure, (S, 119)."""
    counts = np.zeros((len(structures), len(SYMBOLS)))
    np.add.at(counts, (structures.structure_index, structures.atomic_numbers), 1.0)
    return counts


def error_table(structures: Structures, predictions: Predictions) -> dict[str, Any]:
    """Compute errors overall, by size and by element.

    Energies count per atom (eV/atom), forces by component (eV/Å). An element's
    energy error is that of the structures that hold it, its force error that of its
    own atoms. ``standardized_energy_rmse`` is in units of the spread of the labels.

    Returns:
        ``{"overall": row, "by_size": [row, ...], "by_element": [row, ...]}``, each
        row with a ``name`` and JSON numbers, None where there is no label.
    """
    size = structures.num_atoms
    owner = structures.structure_index
    counts = compositions(structures)

    def row(name: str, chosen: NDArray, atoms: NDArray) -> dict[str, Any]:
        difference = (predictions.energy - structures.energy)[chosen]
        per_atom = difference / size[chosen]
        force = (predictions.forces - structures.forces)[atoms]
        return {
            "name": name,
            "structures": int(np.count_nonzero(chosen)),
            "atoms": int(np.count_nonzero(atoms)),
            "energy_mae": _mean(np.abs(per_atom)),
            "energy_rmse": _root(per_atom),
            "standardized_energy_rmse": _root(difference / predictions.scale[chosen]),
            "force_mae": _mean(np.abs(force)),
            "force_rmse": _root(force),
            "force_rms_of_labels": _root(structures.forces[atoms]),
        }

    everything = np.ones(len(structures), bool)
    by_size = []
    for low, high in size_bins(size):
        chosen = (size >= low) & (size <= high)
        name = str(low) if low == high else f"{low}-{high}"
        by_size.append(row(name, chosen, chosen[owner]))
    by_element = [
        row(SYMBOLS[z], counts[:, z] > 0, structures.atomic_numbers == z)
        for z in structures.elements
    ]
    return {
        "overall": row("all", everything, everything[owner]),
        "by_size": by_size,
        "by_element": by_element,
    }


def size_bins(sizes: NDArray) -> list[tuple[int, int]]:
    """Return the occupied bins of sizes: 1, 2-4, 5-16, 17-64, 65-256, ..."""
    bins, low, high = [], 1, 1
    while low <= sizes.max():
        if ((sizes >= low) & (sizes <= high)).any():
            bins.append((low, high))
        low, high = high + 1, 4 * high
    return bins


def format_errors(errors: dict[str, Any], title: str) -> Table:
    """Make a table to print, in meV/atom and meV/Å, 80 columns wide."""
    table = Table(
        title=title,
        title_justify="left",
        caption="E in meV/atom, F in meV/Å; E', F/RMS relative to the labels' spread",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("", no_wrap=True)
    headings = ("n", "E MAE", "E RMSE", "E' RMSE", "F MAE", "F RMSE", "F/RMS")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    sections = (
        ("", [errors["overall"]]),
        ("N = ", errors["by_size"]),
        ("", errors["by_element"]),
    )
    for prefix, rows in sections:
        for row in rows:
            error, spread = row["force_rmse"], row["force_rms_of_labels"]
            relative = error / spread if spread else None
            table.add_row(
                prefix + row["name"],
                str(row["structures"]),
                _text(row["energy_mae"], 1e3, ".1f"),
                _text(row["energy_rmse"], 1e3, ".1f"),
                _text(row["standardized_energy_rmse"], 1.0, ".3f"),
                _text(row["force_mae"], 1e3, ".1f"),
                _text(error, 1e3, ".1f"),
                _text(relative, 1.0, ".1%"),
            )
        table.add_section()
    return table


def _text(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else format(value * factor, form)


def _mean(values: NDArray) -> float | None:
    """Mean over labels; a prediction that is not a number shows as NaN."""
    values = values[~np.isnan(values)]
    return float(values.mean(dtype=np.float64)) if values.size else None


def _root(values: NDArray) -> float | None:
    mean = _mean(np.square(values, dtype=np.float64))
    return None if mean is None else float(np.sqrt(mean))
