"""Progress of `adapt`."""

import sys
from typing import Any

import keras


class AdaptProgress:
    """A Keras progress bar, or nothing."""

    def __init__(self, batches: Any, steps: int | None, verbose: int | str) -> None:
        """Find out how many batches there are."""
        if verbose == "auto":
            verbose = int(sys.stdout.isatty())
        target = steps
        if target is None and hasattr(batches, "__len__"):
            # A dataset of unknown cardinality has a length, but not to be asked for.
            try:
                target = len(batches)
            except TypeError:
                target = None
        self.bar = (
            keras.utils.Progbar(target, unit_name="batch") if int(verbose) else None
        )
        self.done = 0

    def advance(self) -> None:
        """Count a batch."""
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.done, finalize=False)

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None and self.done:
            self.bar.update(self.done, finalize=True)
