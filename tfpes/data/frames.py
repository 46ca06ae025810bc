"""One row for each structure of a file, in this process or in several."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ase import Atoms

from tfpes.data.labels import Keys, weight_of
from tfpes.data.rows import row_of
from tfpes.data.sources import Source, iterate

_Row = dict[str, Any]


def rows(
    source: Source,
    cutoff: float,
    keys: Keys,
    weight_key: str | None,
    neighbours: bool,
    jobs: int,
) -> Iterator[_Row]:
    """Yield columns of each structure, and what may be its labels, in order.

    Args:
        source: as for ``read``, as the others.
        cutoff: Å.
        keys: names of labels.
        weight_key: name of the weights.
        neighbours: whether to build neighbour lists.
        jobs: number of processes; each reads a file at a time.

    Raises:
        ValueError: as ``read``.
    """
    of = functools.partial(
        _rows, cutoff=cutoff, keys=keys, weight_key=weight_key, neighbours=neighbours
    )
    if jobs > 1 and not isinstance(source, str | Path | Atoms):
        source = list(source)
        if len(source) > 1 and not any(isinstance(item, Atoms) for item in source):
            yield from _in_processes(of, source, jobs)
            return
    yield from of(source)


def _in_processes(
    of: Callable[[Any], Iterator[_Row]], paths: list[Any], jobs: int
) -> Iterator[_Row]:
    methods = multiprocessing.get_all_start_methods()
    # This process may have threads, of TensorFlow, which do not live on in a copy.
    context: Any = multiprocessing.get_context(
        "forkserver" if "forkserver" in methods else "spawn"
    )
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(min(jobs, len(paths)), context) as pool:
        for found in pool.map(functools.partial(_listed, of), paths):
            yield from found


def _listed(of: Callable[[Any], Iterator[_Row]], path: Any) -> list[_Row]:
    return list(of(path))


def _rows(
    source: Source, cutoff: float, keys: Keys, weight_key: str | None, neighbours: bool
) -> Iterator[_Row]:
    for place, atoms in iterate(source):
        row = row_of(atoms, place, cutoff, keys, neighbours)
        row["weight"] = weight_of(atoms, weight_key, place)
        yield row
