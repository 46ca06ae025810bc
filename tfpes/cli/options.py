"""Options that several commands share, and how errors are shown."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

DATA = "Data and splitting"
STATISTICS = "Statistics"
FIT = "Training"
OUT = "Output"

Data = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files of structures that ASE reads, or an embedded data set: "
        "'molecules' (default) or 'alloys'."
    ),
]
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


@contextlib.contextmanager
def user_errors(traceback: bool) -> Iterator[None]:
    """Turn errors that a user can mend into one sentence and an exit code."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if traceback:
            raise
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
