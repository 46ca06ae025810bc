"""From files to a folder, of which a part alone is ever in memory."""

import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tfpes.data import folder, frames
from tfpes.data.labels import Keys, check_keys, choose, is_weighted
from tfpes.data.read import open as open_folder
from tfpes.data.rows import join, pack_geometry, pack_labels, refuse_unlabelled
from tfpes.data.sources import Source
from tfpes.data.structures import Structures

_PART = 1024


def convert(
    source: Source,
    path: str | pathlib.Path,
    cutoff: float,
    *,
    edges: bool,
    keys: Keys,
    weight_key: str | None,
) -> None:
    """Write a folder of what :func:`tfpes.data.read` reads, part by part.

    Args:
        source: as for ``read``.
        path: of the folder.
        cutoff: of the neighbour lists, Å.
        edges: whether to store them.
        keys: names of the labels by kind, as for ``read``.
        weight_key: name of the weights, or None.

    Raises:
        ValueError: for what ``read`` refuses.
    """
    parts = _parts(source, cutoff, keys, weight_key)
    folder.write(path, map(vars, parts), cutoff, edges)


def concatenate(
    paths: Iterable[pathlib.Path],
    path: str | pathlib.Path,
    cutoff: float,
    *,
    edges: bool,
    gather: Callable[[Structures], None],
) -> None:
    """Write the folder of the structures of several.

    Args:
        paths: of the folders.
        path: of the new one.
        cutoff: of all of them, Å.
        edges: whether they store edges.
        gather: is called with some thousand structures at a time.
    """

    def parts() -> Iterator[dict[str, Any]]:
        for one in paths:
            for part in open_folder(one).blocks(edges):
                gather(part)
                yield vars(part)

    folder.write(path, parts(), cutoff, edges)


def _parts(
    source: Source, cutoff: float, keys: Keys, weight_key: str | None
) -> Iterator[Structures]:
    """Yield the structures, so many at a time; labels have one name in all of them."""
    check_keys(keys)
    names: set[str] = set()
    known: dict[str, str] = {}
    count, labelled = 0, False
    found = frames.rows(source, cutoff, keys, weight_key, neighbours=True, jobs=1)
    while rows := list(itertools.islice(found, _PART)):
        count += len(rows)
        names = names.union(*(row["names"] for row in rows))
        labels = [row["labels"] for row in rows]
        chosen = choose(labels, keys, names, more_to_come=True)
        for kind, name in chosen.items():
            if name is not None and known.setdefault(kind, name) != name:
                raise ValueError(
                    "A kind of label has one name in all structures of a file. "
                    f"Received: {kind} as {known[kind]!r} and, up to "
                    f"{rows[-1]['place']}, as {name!r}. Name one with `--{kind}-key`."
                )
        packed = pack_geometry(rows) | pack_labels(rows, chosen)
        labelled |= bool(np.isfinite(packed["energy"]).any())
        yield join([packed], cutoff)
    if not count:
        raise ValueError(
            f"`convert` needs at least one structure. Received: none in {source!r}."
        )
    there: Any = {kind: {known[kind]: 0.0} if kind in known else {} for kind in keys}
    choose([there] * count, keys, names)
    is_weighted([names], weight_key)
    if not labelled and keys["energy"] is not None:
        refuse_unlabelled(count, names, keys["energy"])
