"""Options that several commands share, and how errors are shown."""

from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

DATA = "Data and splitting"
STATISTICS = "Statistics"
FIT = "Training"
OUT = "Output"

Model = Annotated[
    str,
    typer.Argument(
        help="Folder of a run of 'tfpes train', a .keras file or a SavedModel."
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of structures that ASE reads, or an embedded data set: "
        "'molecules' (default) or 'alloys'."
    ),
]
DEFAULT_DATA = ["molecules"]
Cutoff = Annotated[
    float, typer.Option(help="Radius of neighbour lists, Å.", rich_help_panel=DATA)
]
EnergyKey = Annotated[
    str, typer.Option(help="Name of the energies.", rich_help_panel=DATA)
]
ForcesKey = Annotated[
    str, typer.Option(help="Name of the forces.", rich_help_panel=DATA)
]
StressKey = Annotated[
    str, typer.Option(help="Name of the stress.", rich_help_panel=DATA)
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Structures in a batch.", rich_help_panel=DATA)
]
SizeLaw = Annotated[
    str,
    typer.Option(
        help="independent, collective or auto (see the statistics page).",
        rich_help_panel=STATISTICS,
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder of the results.  [default: a new one in runs/]",
        rich_help_panel=OUT,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace results.", rich_help_panel=OUT),
]
Traceback = Annotated[
    bool,
    typer.Option("--traceback", help="Show where an error arose.", rich_help_panel=OUT),
]


class Command(TyperCommand):
    """Turns errors that a user can mend into one sentence and an exit code.

    With the option ``traceback``, which is read here, they are raised.
    """

    def invoke(self, ctx: Any) -> Any:
        """Call the function of the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, FloatingPointError) as error:
            if ctx.params["traceback"]:
                raise
            Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
