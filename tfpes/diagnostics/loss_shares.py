"""What each of the usual losses weighs: sizes, elements, energies against forces."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.evaluation import Evaluation, compositions
from tfpes.evaluation.groups import groups
from tfpes.layers import PESNormalization
from tfpes.targets import structure_target

_LAWS = ("independent", "collective")


@dataclasses.dataclass(frozen=True)
class Balance:
    """Squared losses of a model that knows only the composition.

    Attributes:
        name: of the pair of losses.
        energy: mean squared energy error, in `energy_unit`.
        forces: mean squared force component, in `force_unit`.
        energy_unit: of `energy`, empty if it has none.
        force_unit: of `forces`, empty if it has none.
    """

    name: str
    energy: float
    forces: float
    energy_unit: str = ""
    force_unit: str = ""

    @property
    def ratio(self) -> float:
        """Energy loss over force loss."""
        return self.energy / self.forces


def balances(labels: Evaluation) -> list[Balance]:
    """Return both terms of the usual losses for ``ΔE = E - Σ n μ`` and ``ΔF = F``.

    Args:
        labels: errors of the model that says so.

    Returns:
        One entry for each pair of losses; none without labels or without any spread.
    """
    overall, comparison = labels.overall, labels.comparison
    forces, energy = overall.force_rmse, overall.standardized_energy_rmse
    force_unit = overall.standardized_force_rmse
    if not (forces and force_unit and energy and np.isfinite(energy)):
        return []
    true, pred = comparison.energy
    error, size = pred - true, comparison.num_atoms
    unit = "(eV/Å)²"
    weighted = {"raw": error, "per atom": error / size, "per √N": error / np.sqrt(size)}
    return [
        Balance(name, float(np.nanmean(values**2)), forces**2, "eV²", unit)
        for name, values in weighted.items()
    ] + [
        Balance("standardized", energy**2, (overall.standardized_force_rmse or 0) ** 2)
    ]


def loss_shares(
    structures: Structures, normalization: PESNormalization
) -> dict[str, Any]:
    """Compute the share of sizes and elements in squared losses of these labels.

    The errors are those of a model that knows only the composition: the spread of the
    labels itself, ``ΔE = E - Σ n_z μ_z`` and ``ΔF = F``. An energy loss is
    ``L = Σ_s w_s ΔE_s²``, with

        raw             w = 1
        per atom        w = 1 / N²
        per √N          w = 1 / N
        independent     w = 1 / (Σ n_z σ_z²)
        collective      w = 1 / (Σ n_z σ_z² + N² κ²)

    where the last two are ``EnergyLoss`` under either size law: the statistics of
    `normalization` for the law that it has, refitted to these labels for the other. A
    force loss is ``L = Σ_i w_i |ΔF_i|²``, with

        raw                 w = 1
        standardized        w = 1 / η_z²
        per structure       w = 1 / (N η_z²)

    the last two being ``ForceLoss`` with ``average="atoms"`` and ``"structures"``.

    The loss of a structure is divided equally among its atoms. The squared gradient is
    that with respect to errors in units of the spread, ``(s ∂L/∂E)²`` with the scale of
    `normalization`, and ``(η_z ∂L/∂F)²``: how hard a network of unitless outputs is
    pulled. It equals the loss where the loss is standardized with that scale.

    Args:
        structures: with labels; missing ones are left out.
        normalization: adapted. Isolated atoms are left out if it leaves them out.

    Returns:
        ``{"energy": part, "forces": part}``, each only if there are labels, with

        - ``part["count"]``: the shares if each structure (or atom) counted once,
        - ``part["losses"][name]["loss"]`` and ``...["gradient"]``,

        all ``{"by_size": {"5-16": 0.2, ...}, "by_element": {"Cu": 0.1, ...}}`` that sum
        to 1.

    Raises:
        RuntimeError: if the normalization has no statistics of labels that are there.
        ValueError: if there is no label at all.

    Example:
        >>> import tfpes
        >>> alloys = tfpes.data.load("alloys")
        >>> norm = tfpes.layers.PESNormalization(size_law="auto")
        >>> norm.adapt(alloys.batches(64))
        >>> shares = loss_shares(alloys, norm)["energy"]["losses"]
        >>> list(shares)
        ['raw', 'per atom', 'per √N', 'independent', 'collective']
    """
    used = np.ones(len(structures), bool)
    if normalization.options.isolated_atoms == "exclude":
        used = ~structures.isolated_atoms
    parts = {
        "energy": _energy_shares(structures[used], normalization),
        "forces": _force_shares(structures[used], normalization),
    }
    found = {key: part for key, part in parts.items() if part}
    if not found:
        raise ValueError(
            "`loss_shares` needs energies or forces. Received: structures without "
            "labels. Check the keys of the file."
        )
    return found


def _energy_shares(
    structures: Structures, normalization: PESNormalization
) -> dict[str, Any] | None:
    structures = structures[np.isfinite(structures.energy)]
    if not len(structures):
        return None
    normalization.require_adapted("energy")
    counts = compositions(structures)
    size = counts.sum(axis=1)
    scales = scale_of_each_law(normalization, counts, structures.energy)
    weights = {"raw": np.ones(len(size)), "per atom": size**-2, "per √N": 1 / size}
    weights |= {law: scales[law] ** -2 for law in _LAWS}
    error = structures.energy - normalization.energy_baseline(counts).numpy()
    own = normalization.energy_scale(counts).numpy()
    atoms = structures.structure_index
    return _part(
        structures,
        (1 / size)[atoms],
        {name: weight[atoms] for name, weight in weights.items()},
        (error**2 / size)[atoms],
        (own**2)[atoms],
    )


def _force_shares(
    structures: Structures, normalization: PESNormalization
) -> dict[str, Any] | None:
    present = np.isfinite(structures.forces)
    if not present.any():
        return None
    normalization.require_adapted("forces")
    numbers, owner = structures.atomic_numbers, structures.structure_index
    force = np.where(present, structures.forces, 0.0).astype(np.float64)
    squared, labels = (force**2).sum(axis=1), present.sum(axis=1)
    per_structure = np.maximum(np.bincount(owner, labels), 1)[owner]
    square = normalization.force_scale.numpy()[numbers] ** 2
    weights = {
        "raw": np.ones(len(numbers)),
        "standardized": 1 / square,
        "per structure": 1 / square / per_structure,
    }
    return _part(structures, labels, weights, squared, square)


def _part(
    structures: Structures,
    count: NDArray,
    weights: dict[str, NDArray],
    error: NDArray,
    scale: NDArray,
) -> dict[str, Any]:
    """Divide losses among the bins of sizes and among the elements.

    Args:
        structures: whose atoms are A.
        count: labels of each atom, (A,).
        weights: of the errors, by the name of the loss, (A,).
        error: squared, (A,).
        scale: squared, (A,).
    """
    found = groups(
        compositions(structures), structures.atomic_numbers, structures.structure_index
    )

    def shares(values: NDArray) -> dict[str, dict[str, float]]:
        values = values / (values.sum() or 1.0)
        return {
            kind: dict(zip(group.names, (group.atoms @ values).tolist(), strict=True))
            for kind, group in found.items()
            if kind in ("by_size", "by_element")
        }

    return {
        "count": shares(count),
        "losses": {
            name: {
                "loss": shares(weight * error),
                "gradient": shares(weight**2 * error * scale),
            }
            for name, weight in weights.items()
        },
    }


def scale_of_each_law(
    normalization: PESNormalization, composition: NDArray, energy: NDArray
) -> dict[str, NDArray]:
    """Return the standard deviation of each energy under both size laws.

    Args:
        normalization: whose statistics serve for the law that it has.
        composition: (S, 119), without isolated atoms.
        energy: (S,) eV, which the other law is fitted to.

    Returns:
        ``{"independent": (S,), "collective": (S,)}``, eV.
    """
    own = _LAWS[int(normalization.collective_variance.numpy() > 0)]
    (other,) = set(_LAWS) - {own}
    config = {
        **normalization.get_config(),
        "size_law": other,
        "collective_variance": None,
        # Without neighbours an atom in a cell cannot be told from an isolated one.
        "isolated_atoms": "include",
    }
    config.pop("statistics", None)
    refitted = PESNormalization.from_config(config)
    refitted.adapt({"energy": structure_target(energy, composition)})
    return {
        own: normalization.energy_scale(composition).numpy(),
        other: refitted.energy_scale(composition).numpy(),
    }
