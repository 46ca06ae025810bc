"""Embedded data sets, made by us."""

from __future__ import annotations

import pathlib

__all__ = ["EMBEDDED", "embedded_path"]

EMBEDDED = ("alloys", "molecules")


def embedded_path(name: str) -> pathlib.Path:
    """Returns the file of the embedded data set `name`.

    Args:
        name: One of `EMBEDDED`.

    Returns:
        The path of an xz-compressed extended XYZ file, which `ase.io.read` reads.

    Raises:
        ValueError: If there is no embedded data set of that name.
    """
    if name not in EMBEDDED:
        known = ", ".join(f"`{n}`" for n in EMBEDDED)
        raise ValueError(
            f"`name` must be an embedded data set. Received: {name!r}. "
            f"Choose one of {known}, or read a file of your own by its path."
        )
    return pathlib.Path(__file__).with_name(f"{name}.xyz.xz")
