"""Labels as they are gathered for statistics: without padding and without edges."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfpes.data.structures import Structures
from tfpes.targets import atom_target, composition, structure_target

_LABELS = ("energy", "forces", "virial")


def labelled(structures: Structures) -> tuple[str, ...]:
    """Return which labels there are."""
    blocks = np.split(np.arange(len(structures)), range(4096, len(structures), 4096))
    return tuple(
        name
        for name in _LABELS
        if any(not np.isnan(structures.column(name, some)).all() for some in blocks)
    )


def packed_labels(
    structures: Structures, labels: Sequence[str] = ("energy", "forces")
) -> Iterator[tuple[dict[str, Any], ...]]:
    """Yield what ``PESNormalization.adapt`` takes, for some thousand structures each.

    It learns the same as from :meth:`Structures.batches`, which have padding, and
    neighbour lists: those take hours of a large folder that holds none.

    Args:
        structures: with or without edges.
        labels: of ``"energy"``, ``"forces"`` and ``"virial"``.
    """
    plain = bool((structures.weight == 1).all())
    for some in structures.blocks():
        numbers, index = some.atomic_numbers, some.structure_index
        counts = composition(numbers, index, len(some))
        targets = {
            label: atom_target(some.forces, numbers, index)
            if label == "forces"
            else structure_target(getattr(some, label), counts)
            for label in labels
        }
        # An atom on its own is told by the absence of edges: one for each will do.
        first = some.atom_offsets[:-1][~some.isolated_atoms]
        inputs = {"structure_index": index, "edge_index": np.stack([first, first])}
        if plain:
            yield inputs, targets
            continue
        by_atom = some.weight[index]
        weights = {k: by_atom if k == "forces" else some.weight for k in labels}
        yield inputs, targets, weights
