"""The command ``tfpes``: one module for each subcommand."""

import typer

from tfpes.cli.diagnose import diagnose_command
from tfpes.cli.evaluate import evaluate_command
from tfpes.cli.md import md_command
from tfpes.cli.predict import predict_command
from tfpes.cli.stats import stats_command
from tfpes.cli.train import train_command

app = typer.Typer(
    help="Train potential energy surfaces with standardized losses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train_command)
app.command("stats")(stats_command)
app.command("predict")(predict_command)
app.command("md")(md_command)
app.command("evaluate")(evaluate_command)
app.command("diagnose")(diagnose_command)
