"""JSON files that are written completely or not at all."""

import json
import os
import pathlib
import tempfile
from typing import Any


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a file; whatever happens, the old one or the new one is there."""
    target = pathlib.Path(path)
    # Everything that can be wrong with the content is wrong before there is a file.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    unfinished = pathlib.Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; give what a plain open() would.
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod(0o666 & ~mask)
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
