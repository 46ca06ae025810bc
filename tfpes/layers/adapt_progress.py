"""Progress of `adapt`."""

import sys
from collections.abc import Iterable, Iterator
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

    def count(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches; one is done when the next is asked for."""
        done = 0
        for batch in batches:
            yield batch
            done += 1
            if self.bar is not None:
                self.bar.update(done, finalize=False)
        if self.bar is not None and done:
            self.bar.update(done, finalize=True)
