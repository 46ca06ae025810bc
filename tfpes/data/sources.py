"""Files of structures, and ASE objects, one structure after the other."""

import collections
import difflib
import importlib.util
import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator

from ase import Atoms
from ase.db import connect
from ase.io import iread
from ase.io.formats import UnknownFileTypeError, filetype, open_with_compression

from tfpes.data.embedded import EMBEDDED

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
        near = difflib.get_close_matches(str(path), EMBEDDED, n=1)
        hint = f"Did you mean the data set '{near[0]}'?" if near else "Check the path."
        raise FileNotFoundError(
            f"`read` needs a file that exists. Received: {str(path)!r}. {hint}"
        )
    if not path.stat().st_size:
        raise ValueError(
            "`read` needs at least one structure. Received: "
            f"{str(path)!r}, an empty file. Check how it was written."
        )
    number = 0
    try:
        for atoms in _frames(path):
            yield f"structure {number} of {path}", atoms
            number += 1
    except UnknownFileTypeError:
        raise ValueError(
            f"ASE must recognize the format of a file. Received: {str(path)!r}, "
            "of no known format. Convert it, for instance to extended XYZ."
        ) from None
    except _FrameError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        # ASE's parsers raise whatever their first failing line raises.
        raise ValueError(
            f"ASE must be able to read a file. Received: {str(path)!r}, which "
            f"fails after {number} structures: {type(error).__name__}: {error}."
        ) from error


def _frames(path: pathlib.Path) -> Iterator[Atoms]:
    if path.suffix == ".aselmdb":
        if importlib.util.find_spec("ase_db_backends") is None:
            raise _FrameError(
                "Files *.aselmdb are read by the package ase-db-backends. Received: "
                f"'{path}' without it. Install it: pip install 'tfpes[lmdb]'."
            )
        # Many may read at once.
        database = connect(path, use_lock_file=False, readonly=True)
        for row in database.select():
            yield row.toatoms()
        return
    kind = filetype(str(path))
    if kind == "extxyz":
        _check_frames(path)
    yield from iread(str(path), ":", format=kind)


class _FrameError(Exception):
    """Frames of an XYZ file that ASE would read wrongly, or for ever."""


def _check_frames(path: pathlib.Path) -> None:
    """Count the lines of an XYZ file: ASE stops at an empty one without a word.

    Raises:
        _FrameError: for a number of atoms that is none, or lines that do not follow.
    """
    with open_with_compression(str(path), "rb") as file:
        lines: Iterator[bytes] = iter(file)
        for frame in itertools.count():
            line = next(lines, b"")
            while line.startswith(b"VEC"):
                line = next(lines, b"")
            if not line.strip():
                rest = sum(len(line) for line in lines if line.strip())
                if rest:
                    raise _FrameError(
                        "Frames of an XYZ file follow each other without empty lines. "
                        f"Received: '{path}' with one after {frame} structures, and "
                        f"{rest} bytes behind it. Remove it."
                    )
                return
            try:
                count = int(line)
            except ValueError:
                count = -1
            if count < 0:
                raise _FrameError(
                    "A frame of an XYZ file begins with its number of atoms. Received: "
                    f"{line.strip()[:40]!r} after {frame} structures of '{path}'. "
                    "Correct the number of atoms before it, or this line."
                )
            if re.search(rb"(?i)\b(z|numbers):r:1\b", next(lines, b"")):
                raise _FrameError(
                    "Atomic numbers are whole, `Z:I:1`. Received: real ones, `:R:1`, "
                    f"in structure {frame} of '{path}', whose digits would be cut off."
                )
            # ASE would count up to whatever the number is.
            numbered = zip(range(1, count + 1), lines, strict=False)
            last = collections.deque(numbered, maxlen=1)
            there = last[0][0] if last else 0
            if there < count:
                raise _FrameError(
                    f"A frame of an XYZ file has as many atoms as it says, {count}. "
                    f"Received: '{path}', which ends after {there} atoms of structure "
                    f"{frame}. Write it again."
                )
