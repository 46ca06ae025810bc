"""``tfpes convert``."""

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import pathlib
import shutil
from collections.abc import Iterator
from typing import Annotated

import typer

from tfpes.cli import options
from tfpes.cli.options import of_data, of_output
from tfpes.data import Structures
from tfpes.data import open as open_folder
from tfpes.data.convert import concatenate, convert
from tfpes.data.folder import is_folder, require_replaceable
from tfpes.data.packed import labelled, packed_labels
from tfpes.files import require_empty
from tfpes.layers import PESNormalization
from tfpes.terminal import PlainConsole
from tfpes.training.options import require_positive
from tfpes.training.statistics import write_gathered
from tfpes_command import load_tensorflow


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be done for a file, which is known by all of it."""

    file: str
    changed: int
    cutoff: float
    edges: bool
    keys: tuple[tuple[str, str], ...]
    weight_key: str

    @property
    def name(self) -> str:
        """Of the folder of the file."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def convert_command(
    data: Annotated[
        list[str],
        typer.Argument(help="Files of structures that ASE reads, or *.aselmdb."),
    ],
    output: Annotated[str, of_output("--output", "-o", help="Folder to write.")],
    cutoff: options.Cutoff = 5.0,
    edges: Annotated[
        bool,
        of_data(
            "--edges",
            help="Store neighbour lists, too: some twenty times the size. Without, "
            "batches find them.",
        ),
    ] = False,
    energy_key: options.EnergyKey = "energy",
    forces_key: options.ForcesKey = "forces",
    stress_key: options.StressKey = "stress",
    virial_key: options.VirialKey = "virial",
    weight_key: options.WeightKey = "config_weight",
    jobs: Annotated[int, of_data(min=1, help="Files that are read at a time.")] = 1,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Write files of structures as a folder for data sets larger than memory.

    All other commands take such a folder in the place of a file. What is done of a
    file is kept: called again after an interruption, this goes on with the next one.
    """
    console = PlainConsole(stderr=True)
    require_positive(cutoff=cutoff)
    target = pathlib.Path(output)
    require_empty(target, overwrite)
    require_replaceable(target)
    keys = zip(
        ("energy", "forces", "stress", "virial"),
        (energy_key, forces_key, stress_key, virial_key),
        strict=True,
    )
    common = (cutoff, edges, tuple(keys), weight_key)
    work = [_Job(str(pathlib.Path(f).resolve()), _changed(f), *common) for f in data]
    room = target.with_name(f".{target.name}.parts")
    room.mkdir(parents=True, exist_ok=True)
    left = [job for job in work if not is_folder(room / job.name)]
    if len(left) < len(work):
        console.print(f"{len(work) - len(left)} of {len(work)} files were done before.")
    failed = []
    for number, (job, error) in enumerate(_run(left, room, jobs), start=1):
        console.print(
            f"{number}/{len(left)}  {job.file}{': ' if error else ''}{error}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        failed += [job.file] if error else []
    if failed:
        raise ValueError(
            f"All files must be readable. Received: {len(failed)} of {len(work)} that "
            f"are not, {', '.join(failed)}. Correct them, or leave them out, and call "
            "again: the others are done."
        )
    parts = [room / job.name for job in work]
    # What no structure has is not missing; else, it is in each file without it.
    labels = sorted({name for part in parts for name in labelled(open_folder(part))})
    layer = PESNormalization()

    def gather(some: Structures) -> None:
        for batch in packed_labels(some, labels):
            layer.update_state(batch)

    concatenate(parts, target, cutoff, edges=edges, gather=gather)
    write_gathered(target, layer)
    shutil.rmtree(room)
    console.print(f"{open_folder(target)}", highlight=False)
    console.print(f"\nWritten to {target}/", highlight=False, soft_wrap=True)


def _changed(file: str) -> int:
    """Return when a file was written; 0 for none, which is said when it is read."""
    path = pathlib.Path(file)
    return path.stat().st_mtime_ns if path.is_file() else 0


def _run(work: list[_Job], room: pathlib.Path, jobs: int) -> Iterator[tuple[_Job, str]]:
    """Yield each file when it is done, and what was wrong with it."""
    if jobs == 1 or len(work) < 2:
        yield from ((job, _convert(job, room)) for job in work)
        return
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, load_tensorflow) as pool:
        running = {pool.submit(_convert, job, room): job for job in work}
        for done in concurrent.futures.as_completed(running):
            yield running[done], done.result()


def _convert(job: _Job, room: pathlib.Path) -> str:
    """Write the folder of a file, and return what was wrong."""
    try:
        convert(
            job.file,
            room / job.name,
            job.cutoff,
            edges=job.edges,
            keys=dict(job.keys),
            weight_key=job.weight_key,
        )
    except (ValueError, OSError) as error:
        return str(error)
    return ""
