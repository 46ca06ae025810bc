"""The command ``tfpes``: one module for each subcommand."""

import typer

from tfpes.cli.diagnose import diagnose_command
from tfpes.cli.evaluate import evaluate_command
from tfpes.cli.md import md_command
from tfpes.cli.options import Command
from tfpes.cli.predict import predict_command
from tfpes.cli.stats import stats_command
from tfpes.cli.train import train_command

__all__ = [
    "Command",
    "app",
    "diagnose_command",
    "evaluate_command",
    "md_command",
    "predict_command",
    "stats_command",
    "train_command",
]

app = typer.Typer(
    help="Train potential energy surfaces with standardized losses.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train", cls=Command)(train_command)
app.command("stats", cls=Command)(stats_command)
app.command("predict", cls=Command)(predict_command)
app.command("md", cls=Command)(md_command)
app.command("evaluate", cls=Command)(evaluate_command)
app.command("diagnose", cls=Command)(diagnose_command)
