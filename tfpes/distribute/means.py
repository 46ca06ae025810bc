"""Weights that make means over the labels of one process those over all labels.

    loss = Σ_r Σ_i∈r e_i / n  =  mean_r [ (n_r R / n) Σ_i∈r e_i / n_r ]

with R processes, of which r has n_r of the n labels.
"""

from typing import Any

import tensorflow as tf

from tfpes.losses.standardized_loss import StandardizedLoss
from tfpes.targets import Tensor

_MEANS = ("sum_over_batch_size", "mean")


def loss_leaves(loss: Any, y: Any) -> dict[Any, tuple[Any, Tensor]]:
    """Return each loss of a model with its target, by key (None for a single one).

    Raises:
        TypeError: for losses and targets that are neither single nor dicts.
    """
    if isinstance(y, dict):
        losses = loss if isinstance(loss, dict) else dict.fromkeys(y, loss)
        found = {key: (one, y[key]) for key, one in losses.items() if one is not None}
    else:
        (one,) = loss.values() if isinstance(loss, dict) else (loss,)
        found = {None: (one, y)}
    for one, target in found.values():
        if isinstance(one, list | tuple | dict) or not tf.is_tensor(target):
            raise TypeError(
                "A model of `Cluster.prepare` has one loss for each target, or dicts "
                f"of both. Received: loss {loss!r} for targets {y!r}."
            )
    return found


def mean_over(loss: Any, target: Tensor) -> Tensor:
    """Return the number that a loss divides by: of labels, or of rows.

    Raises:
        ValueError: for a reduction that is no mean over labels or rows.
    """
    reduction = getattr(loss, "reduction", _MEANS[0])
    if reduction not in (*_MEANS, "sum"):
        raise ValueError(
            "With several processes, the `reduction` of a loss is "
            f"'sum_over_batch_size', 'mean' or 'sum'. Received: {reduction!r} of "
            f"{loss!r}. Divide weights by their mean before, instead."
        )
    if reduction == "sum":
        # A sum is what the mean over processes is, times their number.
        return tf.constant(1)
    return loss.count(target) if isinstance(loss, StandardizedLoss) else _rows(target)


def share_weights(
    loss: Any, y: Any, weights: Any, share: Tensor, processes: int
) -> Any:
    """Multiply the weights of rows by the share of this process in each mean.

    Args:
        loss: of the model.
        y: targets.
        weights: sample weights or None.
        share: ``n_r R / n`` for each of :func:`loss_leaves`.
        processes: R.
    """
    result = {}
    for number, (key, (one, target)) in enumerate(loss_leaves(loss, y).items()):
        given = weights.get(key) if isinstance(weights, dict) else weights
        factor = share[number]
        if getattr(one, "reduction", None) == "sum":
            factor *= processes
        if given is None:
            given = tf.ones(_rows(target), factor.dtype)
        result[key] = tf.cast(given, factor.dtype) * factor
    return result if isinstance(y, dict) else result[None]


def _rows(target: Tensor) -> Tensor:
    return tf.shape(target)[0]
