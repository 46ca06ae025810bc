"""Going on from a trained potential with other data."""

import os
import pathlib
from typing import Literal, get_args

import numpy as np

from tfpes.data import Structures
from tfpes.elements import by_symbol
from tfpes.inference import compositions, predict, require_cutoff, require_elements
from tfpes.inference.loading import load_keras
from tfpes.models import Potential
from tfpes.statistics import CompositionTable, FitOptions, fit_energy

Baseline = Literal["refit", "keep", "adapt"]
BASELINES = get_args(Baseline)
"""What can be done about the statistics: see :func:`prepare`."""


def refit_baseline(
    model: Potential, structures: Structures, batch_size: int = 16
) -> dict[str, float]:
    """Shift the energy of each element to suit the labels of other data.

        μ_z ← μ_z + δ_z,
        δ = argmin Σ_s (E_s,label - E_s,model - Σ_z n_sz δ_z)² / s_s²

    Another level of theory moves the energies of atoms by electronvolts, and the
    forces hardly. Here only μ changes: σ², κ², the force scale and the network stay,
    and so do all forces and all energy differences between structures of equal
    composition. What the compositions of the data leave open stays as close to the
    present μ as it can; elements that the data lack keep it. Isolated atoms are left
    out, unless there is nothing else.

    Args:
        model: a trained potential, changed in place.
        structures: with energies; neighbour lists for the cutoff of the model.
        batch_size: structures at a time.

    Returns:
        δ of the elements in the structures, eV.

    Raises:
        ValueError: for another cutoff, an element that the model has not seen,
            structures without energies, and a model with ``reference_energies``,
            which take the place of μ.
    """
    if model.reference_energies is not None:
        raise ValueError(
            "`refit_baseline` changes the mean energies that a model learned. "
            "Received: a model with `reference_energies`, which take their place. "
            "Make a `Potential` of its network and normalization with the reference "
            "energies of the new data."
        )
    _require_known(model, structures)
    if not structures.isolated_atoms.all():
        structures = structures[~structures.isolated_atoms]
    normalization = model.normalization
    residual = structures.energy - predict(model, structures, batch_size).energy
    table = CompositionTable()
    table.update(compositions(structures), residual)
    variance = normalization.energy_variance.numpy()
    # The collective law can leave an element a variance of zero.
    variance = np.maximum(variance, 1e-12 * variance.max())
    fit = fit_energy(
        table,
        FitOptions(isolated_atoms="include"),
        reference=np.zeros_like(variance),
        energy_variance=np.where(np.arange(len(variance)) > 0, variance, np.nan),
        collective_variance=float(normalization.collective_variance.numpy()),
    )
    shift = np.where(fit.seen, fit.mean, 0.0)
    normalization.energy_mean.assign_add(shift)
    return by_symbol(np.where(fit.seen, shift, np.nan))


def prepare(model: Potential, structures: Structures, baseline: str = "refit") -> None:
    """Adjust the statistics of a trained potential to other data, in place.

    Args:
        model: a trained potential.
        structures: to fine-tune on.
        baseline: ``"refit"`` shifts μ (:func:`refit_baseline`); ``"keep"`` changes
            nothing, for data of the same level of theory; ``"adapt"`` learns all
            statistics anew, which changes the scale of energies and forces as well,
            so that the network has to unlearn the old one.

    Raises:
        ValueError: for an unknown ``baseline``, and as :func:`refit_baseline`.
    """
    if baseline not in BASELINES:
        raise ValueError(
            f"`baseline` must be one of {', '.join(BASELINES)}. Received: {baseline!r}."
        )
    if baseline == "adapt":
        model.normalization.adapt(structures.batches(64))
    elif baseline == "refit":
        refit_baseline(model, structures)
    else:
        _require_known(model, structures)


def _require_known(model: Potential, structures: Structures) -> None:
    require_cutoff(model, structures)
    require_elements(
        model,
        structures,
        "learn the statistics anew (baseline `adapt`): the network then starts "
        "untrained on the new elements",
    )


def load_trained(path: str | os.PathLike[str]) -> Potential:
    """Load a trained potential to go on with.

    Args:
        path: a ``.keras`` file, or the folder of a run, which has ``model.keras``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds no :class:`tfpes.models.Potential`.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = file / "model.keras"
    if not file.is_file():
        raise FileNotFoundError(
            "A model to go on from is a `.keras` file, or the folder of a run with "
            f"`model.keras` in it. Received: {os.fspath(path)!r}, which is neither. "
            "A SavedModel can be run, but not trained."
        )
    return load_keras(file)
