"""Options that several commands share, and how errors are shown."""

import functools
from typing import Annotated, Any

import numpy as np
import tensorflow as tf
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from tfpes.data import Structures
from tfpes.inference.requirements import only_known
from tfpes.statistics.fit import options as fit_options
from tfpes.terminal import PlainConsole, printable

# Options by the panel of the help that shows them.
of_data = functools.partial(typer.Option, rich_help_panel="Data and splitting")
of_statistics = functools.partial(typer.Option, rich_help_panel="Statistics")
of_fit = functools.partial(typer.Option, rich_help_panel="Training")
of_output = functools.partial(typer.Option, rich_help_panel="Output")

Model = Annotated[
    str,
    typer.Argument(
        help="Folder of a run of 'tfpes train', a .keras file or a SavedModel."
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of structures that ASE reads, a folder by 'tfpes convert', or an "
        "embedded data set: 'molecules' (default) or 'alloys'."
    ),
]
DEFAULT_DATA = ["molecules"]
Cutoff = Annotated[float, of_data(help="Radius of neighbour lists, Å.")]
EnergyKey = Annotated[
    str, of_data(help="Name of the energies; the default stands for usual ones, too.")
]
ForcesKey = Annotated[str, of_data(help="Name of the forces; likewise.")]
StressKey = Annotated[str, of_data(help="Name of the stress, eV/Å³; likewise.")]
VirialKey = Annotated[str, of_data(help="Name of the virial, eV; likewise.")]
WeightKey = Annotated[
    str, of_data(help="Name of the weights of structures, 1 where there are none.")
]
BatchSize = Annotated[int, of_data(min=1, help="Structures in a batch.")]
SizeLaw = Annotated[
    fit_options.SizeLaw,
    of_statistics(
        metavar="LAW",
        help="How the spread grows with size: independent, collective or auto.",
    ),
]
Output = Annotated[
    str | None,
    of_output(
        "--output",
        "-o",
        help="Folder of the results.",
        show_default="a new one in runs/",
    ),
]
Overwrite = Annotated[bool, of_output("--overwrite", help="Replace results.")]
Traceback = Annotated[bool, of_output("--traceback", help="Show where an error arose.")]


def sample(structures: Structures, most: int, console: Console) -> Structures:
    """Return structures in memory: those of a folder, or so many of them at random."""
    if not structures.is_mapped:
        return structures
    picked = np.arange(len(structures))
    if len(picked) > most:
        console.print(f"A sample of {most} of the {len(picked)} structures:")
        picked = np.sort(np.random.default_rng(0).permutation(picked)[:most])
    return structures.take(picked).with_edges()


def known_to(model: Any, structures: Structures, console: Console) -> NDArray[np.bool_]:
    """Find the structures whose elements a model knows, and say how many others."""
    normalization = getattr(model, "normalization", None)
    if normalization is None:
        return np.ones(len(structures), bool)
    known = np.flatnonzero(normalization.seen.numpy())
    kept, said = only_known(structures, known, "which the model does not know")
    if said:
        console.print(said)
    return kept


class Command(TyperCommand):
    """Turns errors that a user can mend into one sentence and an exit code.

    With the option ``traceback``, which is read here, they are raised. Products are
    computed in full float32 on any GPU.
    """

    def invoke(self, ctx: Any) -> Any:
        """Call the function of the command."""
        tf.config.experimental.enable_tensor_float_32_execution(False)
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, FloatingPointError, MemoryError) as error:
            if ctx.params["traceback"]:
                raise
            message = Text.assemble(("Error:", "bold red"), f" {printable(str(error))}")
            PlainConsole(stderr=True).print(message)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
