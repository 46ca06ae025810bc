"""The command ``tfpes``: what TensorFlow reads when it is loaded, then the app.

No module of the package, because importing the package loads TensorFlow.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
from importlib import metadata

_MOST_BYTES = 200 * 2**20


def main() -> None:
    """Set what the user has not set, and run the command."""
    # Memory is kept from step to step: given back, as by default, it costs a page fault
    # for each 4 kB of the next step, up to half of its time.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if hasattr(os, "sysconf"):
        # All of the machine's, instead of TensorFlow's limit of 64 GB.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))
    # What goes wrong is an exception; lines of the log would break the progress bar.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Of a GPU, take what is needed, when it is needed.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    flags = os.environ.get("TF_XLA_FLAGS", "")
    folder = cache_folder()
    if folder is not None and "persistent_cache" not in flags:
        flag = f"--tf_xla_persistent_cache_directory={folder}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {flag}".lstrip()
    from tfpes.cli import app

    app()


def cache_folder() -> pathlib.Path | None:
    """Return the folder of compiled programs, swept; None to do without.

    It is ``TFPES_CACHE``, which may be empty to do without, or one in the user's cache.
    Programs hold only for the processor and the version that they were made with.
    """
    given = os.environ.get("TFPES_CACHE")
    if given == "":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    features = platform.processor() + platform.machine()
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        features += next((line for line in lines if line.startswith("flags")), "")
    with contextlib.suppress(metadata.PackageNotFoundError):
        features += metadata.version("tensorflow")
    name = hashlib.sha256(features.encode()).hexdigest()[:16]
    folder = pathlib.Path(given or pathlib.Path(home) / "tfpes") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
    except OSError:
        # A run must not fail for what would only make it start sooner.
        return None
    return folder


def _sweep(folder: pathlib.Path) -> None:
    """Remove damaged files, of which TensorFlow makes an error, and the oldest."""
    kept = 0
    files = [(path, path.stat()) for path in folder.iterdir()]
    for path, status in sorted(files, key=lambda file: -file[1].st_mtime):
        kept += status.st_size
        if kept > _MOST_BYTES or not _is_whole(path):
            kept -= status.st_size
            path.unlink(missing_ok=True)


def _is_whole(path: pathlib.Path) -> bool:
    """Return whether a file is a protocol buffer of some fields of bytes, no more."""
    data = path.read_bytes()
    place = 0
    while place < len(data):
        if data[place] & 7 != 2:
            return False
        place += 1
        # The length: seven bits in a byte, the lowest first; the last byte is < 128.
        end = next((k for k in range(place, len(data)) if data[k] < 128), len(data))
        bits = enumerate(data[place : end + 1])
        length = sum((byte & 127) << 7 * k for k, byte in bits)
        place = end + 1 + length
    return bool(data) and place == len(data)
