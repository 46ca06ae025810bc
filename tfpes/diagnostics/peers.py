"""Weights of other packages' losses that bring them nearest to ours, and how near."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.diagnostics.markup import number
from tfpes.evaluation import compositions
from tfpes.evaluation.groups import groups
from tfpes.layers import PESNormalization

# What to write where, by package. docs/peers.md has the losses.
_MEANS = {
    "mace, command line": (
        "--loss=weighted --energy_weight={energy:.4g} --forces_weight={forces:.4g}"
    ),
    "grace, input.yaml, fit: loss:": (
        "energy: {{type: square, weight: {energy:.4g}}}\n"
        "forces: {{type: square, weight: {forces:.4g}}}"
    ),
    "nequip, training_module: loss:": (
        "_target_: nequip.train.EnergyForceLoss\n"
        "coeffs: {{total_energy: {energy:.4g}, forces: {forces:.4g}}}"
    ),
    "metatrain, architecture: training: loss: energy:": (
        "{{type: mse, weight: {energy:.4g}, gradients:\n"
        "  {{positions: {{type: mse, weight: {forces:.4g}}}}}}}"
    ),
}
_DEEPMD = {
    "deepmd-kit, input.json, loss, with one batch_size for all systems": (
        '"start_pref_e": {energy:.4g}, "limit_pref_e": {energy:.4g},\n'
        '"start_pref_f": {forces:.4g}, "limit_pref_f": {forces:.4g},\n'
        '"intensive_ener_virial": {intensive}'
    )
}


@dataclasses.dataclass(frozen=True)
class PeerWeights:
    """What to tell packages whose losses are alike, and what stays different.

    Attributes:
        name: in the head of a column.
        power: of N that squared energy errors are divided by.
        energy: weight of the energy term.
        forces: weight of the force term.
        energies_off: how much more their loss weighs the energy of a structure than
            ours, geometric mean over those of each size and element.
        forces_off: likewise the force on an atom.
    """

    name: str
    power: int
    energy: float
    forces: float
    energies_off: dict[str, float]
    forces_off: dict[str, float]

    def __str__(self) -> str:
        """Return the lines to paste."""
        values = {
            "energy": self.energy,
            "forces": self.forces,
            "intensive": "true" if self.power == 2 else "false",
        }
        return "\n".join(
            f"{where}\n  " + text.format(**values).replace("\n", "\n  ")
            for where, text in (_DEEPMD if self.name == "deepmd" else _MEANS).items()
        )


def peer_weights(
    structures: Structures, normalization: PESNormalization, ratio: float = 1.0
) -> list[PeerWeights]:
    """Match squared losses of mace, grace, nequip, metatrain and deepmd-kit to ours.

    Ours, with r the ratio of energies to forces, and theirs::

        r/S Σ_s ΔE_s²/s_s²  +  1/(3A) Σ_ic ΔF_ic²/η_z²
        a/S Σ_s ΔE_s²/N_s^k +  b/(3A) Σ_ic ΔF_ic²              k = 2
        a/S Σ_s ΔE_s²/N_s^k +  b/S Σ_s 1/(3N_s) Σ_ic ΔF_ic²    deepmd-kit, k = 1 or 2

    The logarithms of the weights of labels are matched by least squares, each label
    counting once: a is the geometric mean of ``r N^k / s²`` over structures.

    Args:
        structures: with energies and forces; missing ones are left out.
        normalization: adapted. Isolated atoms are left out if it leaves them out.
        ratio: of the weight of energies to that of forces in our loss.

    Returns:
        Weights for mace, grace, nequip and metatrain, which are alike, and for
        deepmd-kit with the k that comes nearer; none without energies or forces.

    Raises:
        ValueError: if the ratio is not positive.
    """
    if not ratio > 0:
        raise ValueError(
            f"`ratio`, energy : forces, must be positive. Received: {ratio}."
        )
    if normalization.options.isolated_atoms == "exclude":
        structures = structures[~structures.isolated_atoms]
    known = np.isfinite(structures.energy)
    present = np.all(np.isfinite(structures.forces), axis=1)
    if not (known.any() and present.any()):
        return []
    counts, owner = compositions(structures), structures.structure_index
    size = counts.sum(axis=1)
    # What has no label may hold elements of which nothing is known.
    energies, scale = np.full(known.shape, np.nan), np.full(present.shape, np.nan)
    spread = normalization.energy_scale(counts[known]).numpy()
    energies[known] = np.log(ratio) - 2 * np.log(spread)
    numbers = structures.atomic_numbers[present]
    scale[present] = np.log(normalization.force_scale_of(numbers).numpy())
    present = np.isfinite(scale)
    mean_size = np.log(present.sum() / known.sum())
    found = groups(counts, structures.atomic_numbers, owner)

    def off(members: str, used: NDArray, error: NDArray) -> dict[str, float]:
        """Return geometric means over groups, NaN where nothing is labelled."""
        factors: dict[str, float] = {}
        for kind in ("by_size", "by_element"):
            group = getattr(found[kind], members)
            count, total = group @ used.astype(float), group @ np.where(used, error, 0)
            with np.errstate(invalid="ignore"):
                means = np.exp(total / count).tolist()
            factors |= dict(zip(found[kind].names, means, strict=True))
        return factors

    def match(name: str, power: int, forces: NDArray) -> PeerWeights:
        """Fit to logarithms of our weights where theirs have 1 / N^power and 1."""
        theirs = energies + power * np.log(size)
        a, b = theirs[known].mean(), forces[present].mean()
        return PeerWeights(
            name,
            power,
            float(np.exp(a)),
            float(np.exp(b)),
            off("structures", known, a - theirs),
            off("atoms", present, b - forces),
        )

    by_structure = np.log(size)[owner] - mean_size - 2 * scale
    spreads = [np.std((energies + k * np.log(size))[known]) for k in (1, 2)]
    return [
        match("others", 2, -2 * scale),
        match("deepmd", 1 + int(np.argmin(spreads)), by_structure),
    ]


def peer_text(weights: list[PeerWeights], ratio: float = 1.0) -> str:
    """Return lines to paste, and a table of what stays different, 80 columns wide."""
    if not weights:
        return "Weights for other packages need energies and forces: one is missing."
    heads = [f"{w.name} {what}" for w in weights for what in ("energies", "forces")]
    columns = [off for w in weights for off in (w.energies_off, w.forces_off)]
    rows = [
        f"{name:>8s}" + "".join(f"{number(column[name]):>17s}" for column in columns)
        for name in columns[0]
    ]
    return "\n".join(
        [
            f"Squared losses of others with our weights at {ratio:g} : 1",
            *map(str, weights),
            "",
            "How much more they weigh a label than ours do (1: as much)",
            " " * 8 + "".join(f"{head:>17s}" for head in heads),
            *rows,
        ]
    )
