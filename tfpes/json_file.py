"""JSON files that are written completely or not at all."""

import json
import os
from typing import Any

from tfpes.files import replacing


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a file; whatever happens, the old one or the new one is there."""
    # Everything that can be wrong with the content is wrong before there is a file.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
