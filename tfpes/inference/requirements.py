"""What structures must be for a model to say something of them."""

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.layers import PESNormalization


def compositions(structures: Structures) -> NDArray[np.float64]:
    """Count the atoms of each element in each structure, (S, 119)."""
    counts = np.zeros((len(structures), len(SYMBOLS)))
    np.add.at(counts, (structures.structure_index, structures.atomic_numbers), 1.0)
    return counts


def require_elements(
    model: object,
    structures: Structures | NDArray,
    remedy: str = "train on data that contain these elements",
) -> None:
    """Raise a ValueError for elements that a model has not seen.

    Args:
        model: with a ``normalization``, or a ``PESNormalization``; any other model
            cannot tell what it knows.
        structures: or their compositions, (S, 119).
        remedy: what to do if the structures are needed, for the message.
    """
    normalization = getattr(model, "normalization", model)
    if not isinstance(normalization, PESNormalization):
        return
    counts = structures
    if isinstance(counts, Structures):
        counts = compositions(counts)
    seen = normalization.seen.numpy() > 0
    unknown = np.flatnonzero(counts.any(axis=0) & ~seen)
    if len(unknown):
        strange = counts[:, unknown].any(axis=1)
        where, number = "", np.count_nonzero(counts.any(axis=1))
        if number > 1:
            where = (
                f" in {np.count_nonzero(strange)} of {number} structures, first in "
                f"structure {strange.argmax()}"
            )
        raise ValueError(
            f"The model was trained on {join_symbols(np.flatnonzero(seen)) or 'none'}. "
            f"Received: {join_symbols(unknown)}{where}. Leave such structures out, or "
            f"{remedy}."
        )


def only_known(
    structures: Structures, known: NDArray, reason: str
) -> tuple[NDArray[np.bool_], str]:
    """Find structures whose elements are all known.

    Args:
        structures: to choose from.
        known: atomic numbers.
        reason: why the others are of no use, for the line.

    Returns:
        Which these are, (S,), and one line on the others, if there are any.

    Raises:
        ValueError: if all hold others.
    """
    unknown = np.setdiff1d(structures.elements, known)
    kept = np.ones(len(structures), bool)
    if not len(unknown):
        return kept, ""
    numbers = structures.column("atomic_numbers", np.arange(len(structures)))
    owner = np.repeat(np.arange(len(structures)), structures.num_atoms)
    kept[owner[np.isin(numbers, unknown)]] = False
    number, total = len(kept) - kept.sum(), len(kept)
    said = f"{number} of {total} structures with {join_symbols(unknown)}, {reason}"
    if number == total:
        raise ValueError(
            f"Some structure must hold nothing but {join_symbols(known) or 'none'}. "
            f"Received: {said}. Add data, or use those that fit."
        )
    return kept, f"Left out: {said}."


def require_cutoff(model: object, structures: Structures) -> None:
    """Raise a ValueError for neighbour lists of another cutoff than a model's.

    Args:
        model: that has a ``cutoff`` or whose ``network`` has one; any other model
            takes all.
        structures: with neighbour lists.
    """
    network = getattr(model, "network", model)
    cutoff = getattr(network, "cutoff", structures.cutoff)
    if not np.isclose(cutoff, structures.cutoff):
        raise ValueError(
            "Structures need neighbour lists for the cutoff of the model, "
            f"{cutoff:g} Å. Received: {structures.cutoff:g} Å. Read them with "
            f"`cutoff={cutoff:g}`."
        )
