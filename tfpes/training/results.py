"""What a finished run leaves: errors, pictures, an exported potential."""

import dataclasses
import math

from tfpes.evaluation import evaluate
from tfpes.evaluation.pictures import plot_error_by_size
from tfpes.files import listing, write_json
from tfpes.training.checkpoint import Checkpoint
from tfpes.training.fit import Run
from tfpes.training.pictures import plot_learning_curves

RESULTS = "metrics.json"


def write_results(run: Run, checkpoint: Checkpoint, finished: bool) -> None:
    """Export, print and write the errors on the test set, and draw the pictures.

    Args:
        run: with the best model.
        checkpoint: the state at the end, with the history.
        finished: False for a run that was interrupted and can go on.
    """
    folder, parts, batch_size = run.folder, run.parts, run.options.batch_size
    run.model.export(folder / "saved_model")
    evaluation = evaluate(run.model, parts["test"], batch_size=batch_size)
    history = checkpoint.history
    batches = math.ceil(len(parts["train"]) / batch_size)
    done = checkpoint.budget.state()["step"] / batches
    evaluation.plot_parity(folder / "parity.png", "test set")
    plot_error_by_size(folder / "error_by_size.png", evaluation.comparison)
    if history.get("loss"):
        best = checkpoint.best.best_epoch
        plot_learning_curves(folder / "learning_curves.png", history, done, best)
    # The last file to be written tells that all are there.
    padding = parts["train"].padding(batch_size, shuffle=True)
    write_json(
        folder / RESULTS,
        {
            "test": evaluation.as_dict(),
            # A metric without labels is not a number, which JSON does not have.
            "history": {
                name: [value if math.isfinite(value) else None for value in values]
                for name, values in history.items()
            },
            "padding": dataclasses.asdict(padding),
            "statistics": checkpoint.report,
            "finished": finished,
        },
    )
    title = f"Errors on {len(parts['test'])} test structures"
    run.console.print()
    run.console.print(evaluation.table(title))
    if finished:
        checkpoint.path.unlink(missing_ok=True)
    run.console.print(
        f"\n{listing(folder)}\n\nRun it:\n  import tfpes\n"
        f'  atoms.calc = tfpes.Calculator("{folder / "saved_model"}")',
        highlight=False,
    )
    if not finished:
        run.console.print(f"\nGo on:\n  tfpes train --resume {folder}", highlight=False)
    if said := evaluation.overall.nothing_learned:
        run.console.print(f"\n{said}", highlight=False)
