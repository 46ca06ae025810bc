"""The sets, their parts, and what is done to them."""

import dataclasses
import pathlib

import numpy as np

import tfpes
from tfpes.evaluation import compositions

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"
EMBEDDED = ("alloys", "molecules")
SETS = (*EMBEDDED, "nbmotaw_mvl", "mlearn6")
HARTREE, BOHR, KCAL = 27.211386245988, 0.529177210903, 0.0433641042418009
"""In eV, Å, and eV (kcal/mol)."""

UNITS = {
    "eV, Å": (1.0, 1.0),
    # A power of 2 rounds nothing: what changes here is not a matter of rounding.
    "4 eV, Å": (4.0, 1.0),
    "Hartree, Å": (HARTREE, 1.0),
    "kcal/mol, Å": (KCAL, 1.0),
    "Hartree, Bohr": (HARTREE, BOHR),
}
"""Units of energy and of length, in eV and Å."""


def available(names=SETS):
    """Return the names of the sets that are there."""
    found = []
    for name in names:
        if name in EMBEDDED or (SHARED / f"{name}.xyz").exists():
            found.append(name)
        else:
            print(f"{name}.xyz is not in {SHARED}: left out")
    return found


def load(name, cutoff, most):
    """Return (train, valid, test), at most so many to train on.

    A quarter as many validate, 1.25 times as many test (fewer if there are not).

    Isolated atoms are left out: they are no draws from the distribution of the others.
    """
    if name in EMBEDDED:
        structures = tfpes.data.load(name, cutoff=cutoff)
    else:
        structures = tfpes.data.read(SHARED / f"{name}.xyz", cutoff, verbose=False)
    structures = structures[~structures.isolated_atoms]
    share = min(0.6, most / len(structures))
    rest = min(1 - 1.25 * share, 1.25 * share)
    return structures.split((share, share / 4, rest), cover_elements=True)


def convert(structures, energy, length):
    """Express structures in other units, of so many eV and Å."""
    return dataclasses.replace(
        structures,
        positions=(structures.positions / length).astype(np.float32),
        cell=(structures.cell / length).astype(structures.cell.dtype),
        energy=structures.energy / energy,
        forces=(structures.forces * (length / energy)).astype(np.float32),
        virial=structures.virial / energy,
        cutoff=structures.cutoff / length,
    )


# -- damage, to training sets only ----------------------------------------------------


def thin(structures, kept=3):
    """Keep few structures of the element that the fewest hold.

    Returns:
        The rest, and the element.
    """
    holds = compositions(structures) > 0
    held = np.where(holds.any(axis=0), holds.sum(axis=0), len(holds) + 1)
    element = int(held.argmin())
    rare = np.flatnonzero(holds[:, element])
    return structures[np.setdiff1d(np.arange(len(structures)), rare[kept:])], element


def corrupt(structures, normalization, fraction=0.01, spreads=20.0):
    """Move a share of the energies, at least one, by so many standard deviations."""
    rng = np.random.default_rng(0)
    number = max(1, round(fraction * len(structures)))
    chosen = rng.choice(len(structures), number, replace=False)
    energy = structures.energy.copy()
    scale = normalization.energy_scale(compositions(structures)).numpy()
    energy[chosen] += spreads * scale[chosen] * rng.choice([-1, 1], number)
    return dataclasses.replace(structures, energy=energy)


def tie(structures):
    """Keep two elements only where their numbers of atoms are equal.

    Their mean energies are then known only together. The pair is the one with the
    most structures that hold both alike.

    Returns:
        The rest, and the pair.
    """
    counts = compositions(structures)
    elements = structures.elements
    pairs = [(a, b) for i, a in enumerate(elements) for b in elements[i + 1 :]]
    alike = [((counts[:, a] == counts[:, b]) & (counts[:, a] > 0)) for a, b in pairs]
    a, b = pairs[int(np.argmax([both.sum() for both in alike]))]
    return structures[counts[:, a] == counts[:, b]], (int(a), int(b))
