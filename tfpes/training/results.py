"""What a finished run leaves: errors, pictures, an exported potential."""

import dataclasses
import math
import os
import pathlib
import tempfile

from rich.console import Console

from tfpes.data import Structures
from tfpes.evaluation import evaluate
from tfpes.files import write_json
from tfpes.models import Potential
from tfpes.training.checkpoint import Checkpoint
from tfpes.training.options import Options

RESULTS = "metrics.json"


def write_results(
    options: Options,
    model: Potential,
    parts: dict[str, Structures],
    checkpoint: Checkpoint,
    finished: bool,
    folder: pathlib.Path,
    console: Console,
) -> None:
    """Export, print and write the errors on the test set, and draw the pictures.

    Args:
        options: of the run.
        model: the best one.
        parts: of the data.
        checkpoint: the state at the end, with the history.
        finished: False for a run that was interrupted and can go on.
        folder: of the run.
        console: where to print.
    """
    # matplotlib takes a second to import, and only a finished run needs it.
    from tfpes.evaluation import pictures as error_pictures
    from tfpes.training import pictures

    model.export(folder / "saved_model")
    test = parts["test"]
    evaluation = evaluate(model, test, batch_size=options.batch_size)
    history = checkpoint.history
    batches = math.ceil(len(parts["train"]) / options.batch_size)
    complete = int(checkpoint.budget.state()["step"]) // batches
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pictures-") as name:
        room = pathlib.Path(name)
        evaluation.plot_parity(room / "parity.png")
        error_pictures.plot_error_by_size(
            room / "error_by_size.png", evaluation.comparison
        )
        if history.get("loss"):
            path = room / "learning_curves.png"
            pictures.plot_learning_curves(path, history, complete)
        for picture in room.iterdir():
            os.replace(picture, folder / picture.name)
    # The last file to be written tells that all are there.
    padding = parts["train"].padding(options.batch_size, shuffle=True)
    write_json(
        folder / RESULTS,
        {
            "test": evaluation.as_dict(),
            "history": history,
            "padding": dataclasses.asdict(padding),
            "statistics": checkpoint.report,
            "finished": finished,
        },
    )
    console.print()
    console.print(evaluation.table(f"Errors on {len(test)} test structures"))
    if finished:
        checkpoint.path.unlink(missing_ok=True)
    console.print(f"\nWritten to {folder}/:", highlight=False)
    for path in sorted(folder.glob("[!.]*")):
        console.print(f"  {path.name}", highlight=False)
    console.print(
        "\nRun it:\n  import tfpes\n"
        f'  atoms.calc = tfpes.Calculator("{folder / "saved_model"}")',
        highlight=False,
    )
    if not finished:
        console.print(f"\nGo on:\n  tfpes train --resume {folder}", highlight=False)
