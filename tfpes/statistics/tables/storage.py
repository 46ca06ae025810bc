"""Plain arrays on disk: npz without pickle, written in one step."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1


def save_state(path: str | os.PathLike[str], state: Mapping[str, NDArray]) -> None:
    """Write arrays to an npz file; a crash leaves the old file or the new one."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **state)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; give what a plain open() would.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_state(path: str | os.PathLike[str]) -> dict[str, NDArray]:
    """Read the arrays of an npz file, refusing pickled objects.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no npz file, or a damaged one.
    """
    try:
        # NumPy leaves a damaged file open if it is given the path.
        with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            "A statistics file is an npz archive of plain arrays. "
            f"Received: '{path}', which cannot be read ({error}). "
            "Write it again with `save`."
        ) from error


def check_state(state: Mapping[str, NDArray], kind: str, names: Iterable[str]) -> None:
    """Check kind, version and names of a state before any of it is used.

    Raises:
        ValueError: if the state is of another kind or version, or incomplete.
    """
    found = str(state["kind"]) if "kind" in state else "unknown"
    version = int(state["version"]) if "version" in state else 0
    if found != kind or version != FORMAT_VERSION:
        raise ValueError(
            f"The state of a `{kind}` has version {FORMAT_VERSION}. Received: a state "
            f"of kind '{found}', version {version}. Build the table again from the "
            "data, or use the release of `tfpes` that wrote it."
        )
    missing = sorted(set(names) - set(state))
    if missing:
        raise damaged(kind, f"without {', '.join(missing)}")


def damaged(kind: str, reason: str) -> ValueError:
    """Return the error for a state whose arrays do not fit together."""
    return ValueError(
        f"The state of a `{kind}` must hold the arrays that its `state()` returned. "
        f"Received: a state {reason}. The file is damaged: build the table again."
    )
