"""Files that are written completely or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a path to write to; it takes the place of ``path`` if all goes well.

    A process that is killed leaves the old file, and at most a hidden one with the
    same ending beside it, which the next attempt overwrites.
    """
    target = pathlib.Path(path)
    unfinished = target.with_name(f".{target.stem}.unfinished{target.suffix}")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
