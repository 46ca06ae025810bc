"""Processes that must do the same, at the same time."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import tensorflow as tf

from tfpes.targets import Tensor

FIT, EVALUATE, END, ELSEWHERE = range(4)
_PLACES = (
    "a step of `fit`",
    "a step of `evaluate`",
    "the end of an epoch",
    "`all_reduce`, `all_gather`, `broadcast` or `adapt`",
)
_NUMBERS = 32
"""Length of what is added up: how many are at each place, rows, and labels."""
_RULE = (
    "All processes must do the same with a model of `Cluster.prepare`, on equal "
    "numbers of batches. "
)
_WAY_OUT = (
    "Call `fit` and `evaluate` in all of them, with batches of `share=cluster`; "
    "`predict` and `tfpes.evaluate` are of each process alone."
)


class _Cluster(Protocol):
    size: int
    patience: float

    def sum_tensors(self, tensor: Tensor, key: int, patience: float = 0.0) -> Tensor:
        """See `Cluster.sum_tensors`."""


def meet(cluster: _Cluster, key: int, place: int, *numbers: Tensor) -> Tensor:
    """Add up some numbers of all processes, which must have come to one place.

    Args:
        cluster: the processes.
        key: of this operation, the same one at all places: those meet, too, who are at
            different ones.
        place: one of those above.
        *numbers: float64, as many in all processes.

    Returns:
        The sums, and zeros that fill them up.
    """
    places = tf.one_hot(place, len(_PLACES), dtype=tf.float64)
    vector = tf.concat([places, *(tf.reshape(n, [-1]) for n in numbers)], axis=0)
    # Always of one shape, that of the operation.
    vector = tf.pad(vector, [[0, _NUMBERS - tf.shape(vector)[0]]])
    # Who waits to be told something may wait for as long as it takes.
    patience = 0.0 if place == ELSEWHERE else cluster.patience
    total = cluster.sum_tensors(vector, key, patience)
    # One number of processes for each place.
    received = tf.strings.format(
        f"{_RULE}Received: {{}} of them, at one time, in {', '.join(_PLACES)}. "
        f"{_WAY_OUT}",
        tf.cast(total[: len(_PLACES)], tf.int32),
    )
    here = tf.equal(total[place], float(cluster.size))
    with tf.control_dependencies([tf.debugging.Assert(here, [received])]):
        return tf.identity(total[len(_PLACES) :])


@contextlib.contextmanager
def answered(cluster: _Cluster) -> Iterator[None]:
    """Raise a RuntimeError in words where the other processes do not come.

    Args:
        cluster: the processes.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError) as error:
        raise RuntimeError(
            f"{_RULE}Received: no answer of another one, which has ended or has not "
            f"come within {cluster.patience:g} s. {_WAY_OUT}"
        ) from error
