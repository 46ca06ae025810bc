"""The command ``tfpes``: one module for each subcommand."""

from collections.abc import Callable

import typer

from tfpes.cli.convert import convert_command
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
    "convert_command",
    "diagnose_command",
    "evaluate_command",
    "md_command",
    "predict_command",
    "stats_command",
    "train_command",
]

# The command of the terminal, `tfpes_command`, lists these before it loads them.
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
_COMMANDS: dict[str, Callable[..., None]] = {
    "train": train_command,
    "stats": stats_command,
    "predict": predict_command,
    "md": md_command,
    "evaluate": evaluate_command,
    "diagnose": diagnose_command,
    "convert": convert_command,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=Command)(_command)
