"""Files that are written completely or not at all."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


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


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a file; whatever happens, the old one or the new one is there."""
    # Everything that can be wrong with the content is wrong before there is a file.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
