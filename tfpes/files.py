"""Files and folders that are written completely or not at all, and new places."""

import contextlib
import errno
import itertools
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a path to write to; it takes the place of ``path`` if all goes well.

    A process that is killed leaves the old file, and at most a hidden one with the
    same ending beside it, which the next attempt removes.

    Raises:
        OSError: if there is no room; the message names the file.
    """
    target = pathlib.Path(path)
    unfinished = target.with_name(f".{target.stem}.unfinished{target.suffix}")
    try:
        create(unfinished).close()
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename == target:
            raise
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno)}; the previous one is intact. Make room, and "
            "try again",
            target,
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def create(path: pathlib.Path, **options: Any) -> Any:
    """Open a new file to write text, in the place of any that is there.

    Never one that a link of this name points to: a folder may be somebody else's.
    """
    path.unlink(missing_ok=True)
    return path.open("x", encoding="utf-8", **options)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a folder to make; it takes the place of ``path`` if all goes well.

    If anything fails, an earlier folder stays as it was.
    """
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=target.parent, prefix=f".{target.name}-"
    ) as room:
        complete, replaced = (pathlib.Path(room, x) for x in ("complete", "replaced"))
        yield complete
        if target.exists():
            os.replace(target, replaced)
        try:
            os.replace(complete, target)
        except BaseException:
            if replaced.exists():
                os.replace(replaced, target)
            raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a file; whatever happens, the old one or the new one is there."""
    # Everything that can be wrong with the content is wrong before there is a file.
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def new_file(path: str, overwrite: bool, option: str = "--output") -> pathlib.Path:
    """Return the path of a file that does not exist, or that may be overwritten.

    Args:
        path: of the file.
        overwrite: whether there may be one.
        option: that named the file, for messages.

    Raises:
        FileExistsError: if there is a folder, or a file that must not be overwritten.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise FileExistsError(
            f"`{option}` must be the name of a file. Received: {str(path)!r}, a "
            "folder. Name a file in it."
        )
    if file.exists() and not overwrite:
        raise FileExistsError(
            f"`{option}` must be a new file. Received: {str(path)!r}, which exists. "
            "Choose another one, or pass `--overwrite`."
        )
    return file


@contextlib.contextmanager
def made_folder(
    path: str | None, overwrite: bool, default: str
) -> Iterator[pathlib.Path]:
    """Make a folder that holds nothing, or take one that may be overwritten.

    It is there from the start, so that two processes never take the same default one.
    What was made goes again if an error passes before anything is in it.

    Args:
        path: of the folder; None for the first that is free of ``runs/default-1``,
            ``runs/default-2``, ...
        overwrite: whether there may be files in it.
        default: name of the folder if there is no path.

    Raises:
        FileExistsError: if there is a file, or a folder that must not be overwritten.
    """
    if path is None:
        numbered = (pathlib.Path("runs", f"{default}-{n}") for n in itertools.count(1))
        folder = next(folder for folder in numbered if not folder.exists())
    else:
        folder = pathlib.Path(path)
        if folder.exists() and not folder.is_dir():
            raise FileExistsError(
                f"`--output` must be a folder. Received: {str(path)!r}, a file."
            )
        require_empty(folder, overwrite)
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=path is not None)
    except FileExistsError:
        # Another process was faster.
        with made_folder(path, overwrite, default) as another:
            yield another
        return
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(OSError):
            for part in made:
                part.rmdir()
        raise


def require_empty(folder: pathlib.Path, overwrite: bool) -> None:
    """Raise a FileExistsError for a folder with files that must not be overwritten."""
    there = folder.iterdir() if folder.is_dir() else ()
    # Hidden ones are locks and what a killed process left.
    if not overwrite and any(not path.name.startswith(".") for path in there):
        raise FileExistsError(
            "`--output` must be a new or empty folder. Received: "
            f"{str(folder)!r}, which holds files. Choose another one, or pass "
            "`--overwrite`."
        )


def listing(folder: pathlib.Path) -> str:
    """Tell which files are in a folder, for a user."""
    names = sorted(path.name for path in folder.glob("[!.]*"))
    return "\n  ".join([f"Written to {folder}/:", *names])
