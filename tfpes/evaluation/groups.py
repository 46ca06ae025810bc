"""Who belongs together: structures and atoms by size, element and ``config_type``."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tfpes.elements import SYMBOLS


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """G groups of S structures with A atoms.

    ``groups.structures @ values`` adds up values (S,) of structures in each group.

    Attributes:
        names: of the groups.
        structures: (G, S), 1 for members, sparse.
        atoms: (G, A), likewise.
        num_atoms: (G,).
    """

    names: tuple[str, ...]
    structures: csr_array
    atoms: csr_array
    num_atoms: NDArray[np.float64]


def groups(
    composition: NDArray,
    atomic_numbers: NDArray,
    structure_index: NDArray,
    config_type: NDArray[np.str_] | None = None,
    isolated: NDArray[np.bool_] | None = None,
    trained_on: NDArray[np.bool_] | None = None,
) -> dict[str, Groups]:
    """Return ``overall``, ``by_size``, ``by_element``, and others if there are any.

    These are ``by_config_type``, ``by_training``: new structures and those that the
    model was trained on, and ``isolated``: isolated atoms belong to no other group. A
    structure belongs to each of its elements, an atom to its own.

    Args:
        composition: (S, 119).
        atomic_numbers: (A,).
        structure_index: (A,).
        config_type: (S,), or None.
        isolated: (S,) which structures are one atom without neighbours, or None.
        trained_on: (S,) which structures a model was trained on, or None.
    """
    size = composition.sum(axis=1)
    alone = np.zeros(len(size), bool) if isolated is None else isolated

    def disjoint(names: Iterable[str], group: NDArray, apart: bool = False) -> Groups:
        """Make groups of the structures that are isolated or not."""
        names = tuple(names)
        group = np.where(alone == apart, group, -1)
        structures = _members(group, len(names))
        atoms = _members(group[structure_index], len(names))
        return Groups(names, structures, atoms, structures @ size)

    found = {"overall": disjoint(["all"], np.zeros(len(size), int))}
    if alone.any():
        name = "isolated atoms"
        found["isolated"] = disjoint([name], np.zeros(len(size), int), True)
    if trained_on is not None and trained_on.any():
        names = ("new", "trained on")
        found["by_training"] = disjoint(names, trained_on.astype(int))
    bins = size_bins(size[~alone])
    highest = [high for _, high in bins]
    sizes = (str(low) if low == high else f"{low}-{high}" for low, high in bins)
    found["by_size"] = disjoint(sizes, np.searchsorted(highest, size))
    bound = np.where(alone[:, None], 0.0, composition)
    elements = np.flatnonzero(bound.any(axis=0))
    element = np.searchsorted(elements, atomic_numbers)
    found["by_element"] = Groups(
        tuple(SYMBOLS[z] for z in elements),
        csr_array(bound[:, elements].T > 0, dtype=np.float64),
        _members(np.where(alone[structure_index], -1, element), len(elements)),
        bound[:, elements].sum(axis=0),
    )
    if config_type is not None and (config_type[~alone] != "").any():
        kinds = np.unique(config_type[~alone])
        found["by_config_type"] = disjoint(
            (str(kind) or "(none)" for kind in kinds),
            np.searchsorted(kinds, config_type),
        )
    return found


def size_bins(sizes: NDArray) -> list[tuple[int, int]]:
    """Return the occupied bins of sizes: 1, 2-4, 5-16, 17-64, 65-256, ..."""
    bins, low, high = [], 1, 1
    while low <= sizes.max(initial=0):
        if ((sizes >= low) & (sizes <= high)).any():
            bins.append((low, high))
        low, high = high + 1, 4 * high
    return bins


def _members(group: NDArray, number: int) -> csr_array:
    """Return who belongs to which group, -1 for none."""
    (rows,) = np.nonzero(group >= 0)
    return csr_array((np.ones(len(rows)), (group[rows], rows)), (number, len(group)))
