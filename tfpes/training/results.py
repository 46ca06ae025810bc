"""What a finished run leaves: errors, pictures, an exported potential."""

import dataclasses
import math
import pathlib

from rich.console import Console

from tfpes.data import Structures
from tfpes.evaluation import evaluate
from tfpes.evaluation.pictures import plot_error_by_size
from tfpes.files import listing, replacing, write_json
from tfpes.models import Potential
from tfpes.training.checkpoint import Checkpoint
from tfpes.training.options import Options
from tfpes.training.pictures import plot_learning_curves

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
    model.export(folder / "saved_model")
    test = parts["test"]
    evaluation = evaluate(model, test, batch_size=options.batch_size)
    history = checkpoint.history
    batches = math.ceil(len(parts["train"]) / options.batch_size)
    complete = int(checkpoint.budget.state()["step"]) // batches
    with replacing(folder / "parity.png") as picture:
        evaluation.plot_parity(picture)
    with replacing(folder / "error_by_size.png") as picture:
        plot_error_by_size(picture, evaluation.comparison)
    if history.get("loss"):
        with replacing(folder / "learning_curves.png") as picture:
            plot_learning_curves(picture, history, complete)
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
    console.print(
        f"\n{listing(folder)}\n\nRun it:\n  import tfpes\n"
        f'  atoms.calc = tfpes.Calculator("{folder / "saved_model"}")',
        highlight=False,
    )
    if not finished:
        console.print(f"\nGo on:\n  tfpes train --resume {folder}", highlight=False)
