"""The command ``tfpes``: what it says without TensorFlow, and how it loads that.

No module of the package is imported at the top, because the package loads TensorFlow.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_MOST_BYTES = 200 * 2**20
SUMMARIES = {
    "train": "Train a potential on energies and forces, test it and export it.",
    "stats": "Estimate the statistics of a data set, report on them and draw them.",
    "predict": "Write structures with the energies, forces and stresses of a "
    "potential.",
    "md": "Run molecular dynamics with a potential.",
    "evaluate": "Compare a potential with labels: overall, by size, element and "
    "config_type.",
    "diagnose": "Write a page on a data set: statistics, loss weights, outliers and "
    "advice.",
    "convert": "Write files of structures as a folder for data sets larger than "
    "memory.",
}
"""The commands, in the order of the help."""


class _Group(TyperGroup):
    """Loads TensorFlow when one of the commands is called, not to list them."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command itself for the name in the list."""
        name, _, rest = super().resolve_command(ctx, args)
        load_tensorflow()
        from tfpes.cli import app as loaded

        commands: Any = typer.main.get_command(loaded)
        return name, commands.commands[name], rest


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib import metadata

        print(f"tfpes {metadata.version('tfpes')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Train potential energy surfaces with standardized losses."""


def _nothing() -> None:
    """Stand for a command in the list."""


for _name, _summary in SUMMARIES.items():
    app.command(_name, help=_summary)(_nothing)


def main() -> None:
    """Run the command."""
    app()


def load_tensorflow() -> None:
    """Set what the user has not set, and import TensorFlow, without its log."""
    # Memory is kept from step to step: given back, as by default, it costs a page fault
    # for each 4 kB of the next step, up to half of its time.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if hasattr(os, "sysconf"):
        # All of the machine's, instead of TensorFlow's limit of 64 GB.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))
    # Of a GPU, take what is needed, when it is needed.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    flags = os.environ.get("TF_XLA_FLAGS", "")
    folder = cache_folder()
    if folder is not None and "persistent_cache" not in flags:
        flag = f"--tf_xla_persistent_cache_directory={folder}"
        os.environ["TF_XLA_FLAGS"] = f"{flags} {flag}".lstrip()
    # What goes wrong is an exception; lines of the log would break the progress bar.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        return
    # Those of the first moments, about GPUs that are not there, heed no level.
    with _without_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices("GPU")


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2, by anybody, nowhere."""
    if sys.stderr is None:  # closed: 2 may be any file
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def cache_folder() -> pathlib.Path | None:
    """Return the folder of compiled programs, swept; None to do without.

    It is ``TFPES_CACHE``, which may be empty to do without, or one in the user's cache.
    Programs hold only for the processor and the version that they were made with.
    """
    from importlib import metadata

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
