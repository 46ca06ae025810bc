"""Whether energies, forces and virials belong together: units and signs."""

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import constants

from tfpes.data.structures import Structures

_NEAR, _STRAINED = 0.3, 0.05  # Å, RMS displacement; components of a strain
_FEWEST = 5  # pairs
_SPREAD = 0.2  # median relative deviation of ratios that tell something
_EQUAL, _FITS = 1.3, 1.15  # factors
_LARGEST_STRESS = 1.0  # eV/Å³, 160 GPa
# In eV and Å.
_HARTREE = constants.physical_constants["Hartree energy in eV"][0]
_BOHR = constants.physical_constants["Bohr radius"][0] / constants.angstrom
_KJ = 1e3 / constants.N_A / constants.eV
_KCAL = constants.calorie * _KJ
_GPA = 1e9 * constants.angstrom**3 / constants.eV

# What ΔE is a multiple of -F·Δr by.
_FORCE_UNITS = {
    1.0: "",
    1 / _HARTREE: "energies in Hartree",
    2 / _HARTREE: "energies in Rydberg",
    1 / _KCAL: "energies in kcal/mol",
    1 / _KJ: "energies in kJ/mol",
    1e3: "energies in meV",
    _HARTREE / _BOHR: "forces in Hartree/Bohr",
    _HARTREE / _BOHR / 2: "forces in Rydberg/Bohr",
    _KCAL: "forces in kcal/mol/Å",
    _KJ: "forces in kJ/mol/Å",
    1 / _BOHR: "forces per Bohr",
}
# What ΔE is a multiple of the work of the stress by.
_STRESS_UNITS = {
    1.0: "",
    0.1 * _GPA: "stresses in kbar",
    _GPA: "stresses in GPa",
    _HARTREE / _BOHR**3: "stresses in Hartree/Bohr³",
    _HARTREE / _BOHR**3 / 2: "stresses in Rydberg/Bohr³",
}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """From one frame to the next: changes, eV, to second order in the displacement."""

    energy: float
    of_forces: float
    of_virial: float
    strained: bool


def advise_on_units(structures: Structures) -> list[str]:
    """Compare ΔE of neighbouring frames with -F·Δr, and with the work of the stress.

    ``ΔE = -(F₁ + F₂)·Δr/2 - (W₁ + W₂):ε/2`` where frames have the same atoms, which
    moved little, in cells that are strained little.

    Returns:
        A sentence for each kind of labels of another unit or sign.
    """
    steps = itertools.pairwise(range(len(structures)))
    pairs = [pair for s, t in steps if (pair := _pair(structures, s, t)) is not None]
    moved = [(p.energy, p.of_forces) for p in pairs if not p.strained]
    sentences = _compare(moved, "-F·Δr", _FORCE_UNITS)
    if not sentences:
        strained = [(p.energy - p.of_forces, p.of_virial) for p in pairs if p.strained]
        sentences += _compare(strained, "the work of the stress", _STRESS_UNITS)
    return sentences or _large_stresses(structures)


def _pair(structures: Structures, s: int, t: int) -> _Pair | None:
    one, two = structures[s], structures[t]
    same = np.array_equal(one.atomic_numbers, two.atomic_numbers)
    cells = one.cell[0].astype(np.float64), two.cell[0].astype(np.float64)
    periodic = cells[0].any(axis=1)
    if not same or (periodic != cells[1].any(axis=1)).any():
        return None
    change: NDArray = np.eye(3)
    start = one.positions.astype(np.float64)
    end = two.positions.astype(np.float64)
    if periodic.all():
        change = np.linalg.solve(*cells)
        fractions = (end - start @ change) @ np.linalg.inv(cells[1])
        end = end - np.round(fractions) @ cells[1]
    strain = change - np.eye(3)
    moved = end - start @ change
    moved -= moved.mean(axis=0)
    far = np.sqrt(np.mean(np.sum(moved**2, axis=1)))
    if far > _NEAR or abs(strain).max() > _STRAINED:
        return None
    forces = 0.5 * (one.forces.astype(np.float64) + two.forces)
    virial = 0.5 * (one.virial[0] + two.virial[0])
    of_forces = -float(np.sum(forces * moved)) if far > 1e-4 else 0.0
    of_virial = -float(np.sum(virial * strain))
    found = float(two.energy[0] - one.energy[0]), of_forces, of_virial
    strained = bool(abs(strain).max() > 1e-5)
    if not np.isfinite(found[: 3 if strained else 2]).all():
        return None
    return _Pair(*found, strained)


def _compare(
    pairs: list[tuple[float, float]], what: str, known: dict[float, str]
) -> list[str]:
    """Say which unit or sign would make the first of each pair equal to the second."""
    energy, work = np.reshape(pairs, (-1, 2)).T
    told = np.abs(work) > 0.5 * np.median(np.abs(work)) if len(work) else work > 0
    told &= work != 0
    if np.count_nonzero(told) < _FEWEST:
        return []
    ratios: NDArray[np.float64] = energy[told] / work[told]
    ratio = float(np.median(ratios))
    if not ratio or np.median(np.abs(ratios / ratio - 1)) > _SPREAD:
        return []
    if 1 / _EQUAL < ratio < _EQUAL:
        return []
    nearest = min(known, key=lambda factor: abs(np.log(abs(ratio) / factor)))
    fits = abs(np.log(abs(ratio) / nearest)) < np.log(_FITS)
    words = [known[nearest]] if fits and known[nearest] else []
    if ratio < 0:
        words.append("the opposite sign")
    end = (
        f"{' of '.join(words)} would fit. Convert" if fits else "find out why. Correct"
    )
    return [
        f"Energies of {np.count_nonzero(told)} pairs of neighbouring frames differ by "
        f"{ratio:.3g} times {what}, and should by 1: {end} the labels to eV and Å."
    ]


def _large_stresses(structures: Structures) -> list[str]:
    volume = np.abs(np.linalg.det(np.float64(structures.cell)))
    present = np.isfinite(structures.virial).all(axis=(1, 2)) & (volume > 0)
    if not present.any():
        return []
    virial = np.abs(structures.virial[present]).max(axis=(1, 2))
    stress = float(np.median(virial / volume[present]))
    if stress < _LARGEST_STRESS:
        return []
    return [
        f"Stresses of {stress:.3g} eV/Å³ ({stress / _GPA:.3g} GPa) are not of "
        f"this world; taken for kbar they would be {0.1 * stress:.3g} GPa. Convert the "
        "labels to eV/Å³."
    ]
