"""One process at a time in the folder of a run."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows, where runs are not locked
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other processes out of the folder of a run.

    The operating system drops the lock when its process ends, however it ends: a file
    that a killed process left behind locks nothing.

    Raises:
        BlockingIOError: if another process is in the folder.
    """
    if fcntl is None:
        yield
        return
    path = folder / _LOCK
    # Neither emptied nor followed, if it is a link: a folder may be somebody else's.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(
            error.errno,
            f"A lock is a file. Received: '{path}', a symbolic link. Remove it",
        ) from error
    with os.fdopen(handle, "r+") as file:
        if not _lock(file.fileno(), path):
            raise BlockingIOError(
                "One process at a time writes a run. Received: "
                f"'{folder}', which is in use by another process. Wait until that "
                "one has ended, or stop it."
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(handle: int, path: pathlib.Path) -> bool:
    """Return whether the open file is locked now, and still the one at the path."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks is no reason not to train.
        return True
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
