"""Progress of `adapt`."""

import contextlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import keras
import tensorflow as tf


def with_progress(
    batches: Iterable[Any], steps: int | None, verbose: int | str
) -> Iterator[Any]:
    """Yield batches behind a progress bar of Keras; one is done when the next is due.

    Args:
        batches: an iterator among them gives no more than are used.
        steps: number of batches, all by default.
        verbose: 0 for no bar, ``"auto"`` for one in a terminal.

    Raises:
        ValueError: for a negative number of steps, and an endless dataset without.
    """
    if steps is not None and steps < 0:
        raise ValueError(
            f"`steps` is a number of batches, or None for all. Received: {steps}."
        )
    endless = isinstance(batches, tf.data.Dataset) and bool(
        batches.cardinality() == tf.data.INFINITE_CARDINALITY
    )
    if steps is None and endless:
        raise ValueError(
            "`adapt` reads all of a dataset. Received: one without an end, as "
            "`repeat()` makes it. Pass `steps`, or leave `repeat` out."
        )
    bar = None
    if sys.stdout.isatty() if verbose == "auto" else int(verbose):
        target = steps
        if target is None and isinstance(batches, Sized):
            # A dataset of unknown cardinality has a length, but not to be asked for.
            with contextlib.suppress(TypeError):
                target = len(batches)
        bar = keras.utils.Progbar(target, unit_name="batch")
    done = 0
    for done, batch in enumerate(itertools.islice(batches, steps), start=1):
        yield batch
        if bar:
            bar.update(done, finalize=False)
    if bar and done:
        bar.update(done, finalize=True)
