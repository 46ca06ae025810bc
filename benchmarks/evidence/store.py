"""Finished runs, one JSON object in a line; a run that is there is not repeated."""

import json
import pathlib
import time

from evidence.measures import rounded
from tfpes.files import replacing


class Store:
    """Runs of one benchmark on one set.

    Args:
        path: of the file; it is read if there is one, and grows run by run.
        settings: that all runs share. They are part of what identifies a run.
    """

    def __init__(self, path, settings):
        """Read what is stored."""
        self.path, self.settings = pathlib.Path(path), settings
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.runs = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                run = json.loads(line)
                self.runs[self._identity(run["run"], run["settings"])] = run

    @staticmethod
    def _identity(run, settings):
        return json.dumps([run, settings], sort_keys=True)

    def find(self, **run):
        """Return what is stored for a run, or None."""
        return self.runs.get(self._identity(run, self.settings))

    def missing(self, runs):
        """Return those that are not there, without repetitions, in their order."""
        unique = {self._identity(run, self.settings): run for run in runs}
        return [run for identity, run in unique.items() if identity not in self.runs]

    def complete(self, runs, execute, what):
        """Execute what is missing, and return all.

        Args:
            runs: dicts of what differs between runs.
            execute: takes such a dict as keywords and returns what to store.
            what: these runs are, for the progress lines.
        """
        todo = self.missing(runs)
        if todo:
            print(f"{self.path.stem}, {what}: {len(todo)} runs to go", flush=True)
        for number, run in enumerate(todo, 1):
            start = time.perf_counter()
            result = execute(**run)
            seconds = time.perf_counter() - start
            entry = {
                "run": run,
                "settings": self.settings,
                "result": rounded(result),
            }
            self.runs[self._identity(run, self.settings)] = entry
            self._write()
            named = ", ".join(f"{k} {v}" for k, v in run.items())
            print(f"  {number}/{len(todo)} {named}: {seconds:.1f} s", flush=True)
        return [self.find(**run) for run in runs]

    def _write(self):
        lines = [json.dumps(run, ensure_ascii=False) for run in self.runs.values()]
        with replacing(self.path) as unfinished:
            unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
