"""A process that trains when told."""

import json
import os
import pathlib
import subprocess
import tempfile

THREADS = "2"


class Contestant:
    """A process that trains when told.

    Args:
        title: shown in tables.
        python: interpreter.
        script: a file of this folder.
        arguments: of the script.
    """

    def __init__(self, title, python, script, *arguments):
        """Start it, and wait until it has trained on each batch once."""
        self.title, self.times = title, []
        threads = {f"{k}_NUM_THREADS": THREADS for k in ("OMP", "MKL")}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        path = pathlib.Path(__file__).with_name(script)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", path, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, env={**os.environ, **threads, "KERAS_BACKEND": "tensorflow"},
        )  # fmt: skip
        self.before, self.about = self._answer()
        self.memory = 0

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{self.title} stopped: {last}")

    def train(self, repeats):
        """Train on all batches a number of times."""
        print(repeats, file=self.process.stdin, flush=True)
        seconds, self.memory = self._answer()
        self.times.append(seconds)

    def stop(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
