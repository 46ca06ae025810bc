"""``tfpes predict``."""

from typing import Annotated

import typer
from rich.console import Console

from tfpes.cli.options import Overwrite, Traceback, user_errors
from tfpes.prediction import PredictOptions, predict_file

Model = Annotated[
    str,
    typer.Argument(
        help="Folder of a run of 'tfpes train', a .keras file or a SavedModel."
    ),
]


def predict_command(
    model: Model,
    data: Annotated[
        list[str], typer.Argument(help="Files of structures that ASE reads.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Extended XYZ file, *.xyz.")
    ],
    batch_size: Annotated[
        int, typer.Option(help="Structures in a batch.")
    ] = PredictOptions.batch_size,
    overwrite: Overwrite = False,
    traceback: Traceback = False,
) -> None:
    """Write structures with the energies, forces and stresses of a potential."""
    options = PredictOptions(
        model=model,
        data=tuple(data),
        output=output,
        batch_size=batch_size,
        overwrite=overwrite,
    )
    with user_errors(traceback):
        predict_file(options, Console())
