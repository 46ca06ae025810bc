"""Commands are run in this process, as the terminal would."""

import pytest
from typer.testing import CliRunner

from tfpes.cli import app


@pytest.fixture(scope="session")
def run():
    """Return a function that runs a command, which has to end with an exit code."""

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture(scope="session")
def refuse(run):
    """Return a function that runs a command, which has to end with one sentence."""

    def invoke(arguments, *texts):
        result = run(*arguments, code=1)
        # What was read may be said before.
        _, found, message = result.stderr.rpartition("Error: ")
        assert found
        message = " ".join(message.split())
        for text in texts:
            assert text in message
        return result

    return invoke


@pytest.fixture
def fitted(monkeypatch):
    """Stop runs when the training would start, and return what it would use.

    Such a command is refused with the words "stopped by the test".
    """
    seen = {}

    def stop(run, saved):
        seen.update(run.parts, model=run.model)
        raise FloatingPointError("stopped by the test")

    monkeypatch.setattr("tfpes.training.run.fit", stop)
    return seen
