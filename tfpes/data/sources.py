"""Files of structures, and ASE objects, one structure after the other."""

import pathlib
from collections.abc import Iterable, Iterator

from ase import Atoms
from ase.io import iread
from ase.io.formats import UnknownFileTypeError

Source = str | pathlib.Path | Iterable[str | pathlib.Path] | Iterable[Atoms]


def iterate(source: Source) -> Iterator[tuple[str, Atoms]]:
    """Yield each structure with words that name it in a message.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if a file cannot be read.
    """
    if isinstance(source, Atoms):
        raise TypeError(
            "`read` takes a path, paths, or an iterable of `ase.Atoms`. Received: one "
            "`Atoms` object. Put it in a list: `read([atoms], ...)`."
        )
    if isinstance(source, str | pathlib.Path):
        source = [source]
    number = 0
    for item in source:
        if isinstance(item, Atoms):
            yield f"structure {number}", item
            number += 1
        elif isinstance(item, str | pathlib.Path):
            yield from _iterate_file(pathlib.Path(item))
        else:
            raise TypeError(
                "`read` takes a path, paths, or an iterable of `ase.Atoms`. Received "
                f"an item of type {type(item).__name__}."
            )


def _iterate_file(path: pathlib.Path) -> Iterator[tuple[str, Atoms]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"`read` needs a file that exists. Received: {str(path)!r}. Check the path."
        )
    if not path.stat().st_size:
        raise ValueError(
            "`read` needs at least one structure. Received: "
            f"{str(path)!r}, an empty file. Check how it was written."
        )
    number = 0
    try:
        for atoms in iread(str(path), ":"):
            yield f"structure {number} of {path}", atoms
            number += 1
    except UnknownFileTypeError:
        raise ValueError(
            f"ASE must recognize the format of a file. Received: {str(path)!r}, "
            "of no known format. Convert it, for instance to extended XYZ."
        ) from None
    except Exception as error:
        # ASE's parsers raise whatever their first failing line raises.
        raise ValueError(
            f"ASE must be able to read a file. Received: {str(path)!r}, which "
            f"fails after {number} structures: {type(error).__name__}: {error}."
        ) from error
