"""The device, and how many steps the host hands to it at once."""

import os

import tensorflow as tf

from tfpes.data import Structures
from tfpes.models import PaiNN, Potential, SchNet

# Calls, callbacks and the progress bar take some 3 ms; what is asked of a run, such as
# to stop, waits for the end of an execution.
_SECONDS = 0.05
_MOST_STEPS = 32
# Of a step (one core of 2026, one GPU): without any work; for an edge, a channel and a
# block. Powers of two follow from it: a factor of two in the time is good enough.
_FIXED = {"CPU": 3e-3, "GPU": 1e-3}
_WORK = {"CPU": {SchNet: 4e-8, PaiNN: 14e-8}, "GPU": {SchNet: 2e-11, PaiNN: 8e-11}}


def steps_per_execution(
    model: Potential, structures: Structures, batch_size: int
) -> int:
    """Return the power of two that makes an execution about 50 ms long.

    Args:
        model: with a network of this package; 1 for any other.
        structures: to train on.
        batch_size: structures in a batch.
    """
    network = model.network
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if type(network) not in _WORK[device]:
        return 1
    edges = batch_size * int(structures.edge_offsets[-1]) / len(structures)
    work = edges * network.channels * network.blocks
    seconds = _FIXED[device] + work * _WORK[device][type(network)]
    most = min(_SECONDS / seconds, _MOST_STEPS, len(structures) / batch_size)
    return 2 ** max(int(most).bit_length() - 1, 0)


def device_name() -> str:
    """Return the name of the first GPU, or the number of processors."""
    for device in tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(device)["device_name"]
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    cores = len(available(0))
    return f"CPU ({cores} core{'s' * (cores != 1)})"
