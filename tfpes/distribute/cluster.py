"""The processes that train one model, and what they tell each other."""

import io
import itertools
import os
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from tfpes.distribute.guard import refuse_alone
from tfpes.distribute.meeting import ELSEWHERE, answered, meet
from tfpes.distribute.prepare import prepare
from tfpes.layers import PESNormalization
from tfpes.targets import Tensor

# Of all collective operations here; those of TensorFlow count from 1.
_GROUP = 119


class Cluster:
    """One process for each device; to Keras, each of them is alone.

    Who takes part is found in the environment: the tasks of a SLURM job step
    (``srun``), else ``TF_CONFIG`` as TensorFlow defines it, else this process alone,
    for which everything here does nothing. A process takes the GPU of its number on
    its machine, if there are several. Three things cross processes: numbers of labels
    and gradients of each step, metrics at the end of an epoch. They go by the
    collective operations of ``tf.distribute.MultiWorkerMirroredStrategy``: NCCL
    between GPUs, gRPC between CPUs. Where a process dies, the others stop with an
    error.

    Make it first, before anything else is computed, and once::

        cluster = tfpes.distribute.Cluster()
        train = structures.batches(64, shuffle=True, seed=0, share=cluster)
        cluster.adapt(norm, train)
        model.compile(...)
        cluster.prepare(model)
        model.fit(train, validation_data=valid.batches(64, share=cluster))
        if cluster.is_chief:
            model.save("model.keras")

    Args:
        patience: for how long ``fit`` and ``evaluate`` wait for the other processes, s.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.

    Raises:
        RuntimeError: if TensorFlow has computed something already.
        ValueError: if the environment makes no sense.
    """

    _made = False

    def __init__(self, patience: float = 600.0) -> None:
        """Meet the others."""
        self.rank, self.size = 0, 1
        self.patience = patience
        self._next_key = 1
        self._meeting = self.new_keys()
        self._device, self._hint = "CPU:0", "ring"
        resolver = _resolver()
        if resolver is None:
            return
        addresses, self.rank = _tasks(resolver)
        self.size = len(addresses)
        try:
            if Cluster._made:
                raise RuntimeError("there is one already")
            with_gpu = _choose_gpu(addresses, self.rank)
            # Held: it ends what it began. Nothing is created in its scope.
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except RuntimeError as error:
            raise RuntimeError(
                "A `Cluster` is made once, before TensorFlow computes anything. "
                f"Received: one that came later ({error}). Make it right after `import "
                "tfpes`."
            ) from error
        Cluster._made = True
        if with_gpu:
            self._device, self._hint = "GPU:0", "nccl"

    @property
    def is_chief(self) -> bool:
        """Whether this process, that of rank 0, writes files and prints."""
        return self.rank == 0

    def all_reduce(self, values: ArrayLike) -> NDArray:
        """Return the sum over processes, of an array that has one shape in all."""
        with answered(self):
            self.meet(ELSEWHERE)
            tensor = tf.convert_to_tensor(values)
            return self.sum_tensors(tensor, self.new_keys()).numpy()

    def all_gather(self, values: ArrayLike) -> list[NDArray]:
        """Return the vectors of all processes by rank; lengths may differ."""
        values = np.asarray(values)
        lengths = self.all_reduce(len(values) * np.eye(self.size)[self.rank])
        padded = np.zeros(int(lengths.max()), values.dtype)
        padded[: len(values)] = values
        if self.size == 1:
            return [padded]
        with tf.device(self._device):
            gathered = tf.raw_ops.CollectiveGatherV2(
                input=padded, **self._group(self.new_keys())
            )
        rows = gathered.numpy().reshape(self.size, -1)
        return [row[: int(n)] for row, n in zip(rows, lengths, strict=True)]

    def broadcast(self, values: ArrayLike) -> NDArray:
        """Return the array of the chief, in all processes; shapes are the same."""
        values = np.asarray(values)
        return self.all_reduce(values if self.is_chief else np.zeros_like(values))

    def adapt(
        self,
        normalization: PESNormalization,
        data: Iterable[Any],
        steps: int | None = None,
    ) -> None:
        """Learn the statistics from the batches of all processes.

        What was gathered is merged in the order of ranks: all processes have the same
        statistics, those of one process to rounding.

        Args:
            normalization: to adapt; its report then describes all data.
            data: batches of this process, as for ``PESNormalization.adapt``.
            steps: number of batches of each process to use; all by default.

        Raises:
            ValueError: as ``PESNormalization.adapt``, in all processes.
        """
        if self.size == 1:
            normalization.adapt(data, steps=steps)
            return
        normalization.reset_state()
        batches = [data] if isinstance(data, dict | tuple) else data
        for batch in itertools.islice(batches, steps):
            normalization.update_state(batch)
        gathered = io.BytesIO()
        state: dict[str, NDArray] = {}
        normalization.save_own_variables(state)
        np.savez(gathered, **state)  # type: ignore[arg-type]
        gathered.write(bytes(-gathered.tell() % 8))
        parts = self.all_gather(np.frombuffer(gathered.getbuffer(), np.int64))
        config = normalization.get_config()
        layers = [PESNormalization.from_config(config) for _ in parts]
        for layer, part in zip(layers, parts, strict=True):
            with np.load(io.BytesIO(part.tobytes())) as stored:
                layer.load_own_variables(dict(stored))
        normalization.reset_state()
        normalization.merge_state(layers)
        normalization.finalize_state()

    def prepare(self, model: keras.Model) -> None:
        """Let `fit` and `evaluate` of a model work on the batches of all processes.

        Losses are means over the labels of all of them, and gradients are averaged
        before the optimizer sees them: clipping, moving averages and accumulation of
        gradients are those of one process with the whole batch. At the beginning of
        each ``fit`` and ``evaluate``, which all processes must call alike, with as
        many batches, weights and optimizer become those of the chief. ``predict`` and
        ``save`` are of each process alone.

        Args:
            model: any Keras model; one process alone leaves it as it is.

        Raises:
            TypeError: for a model with a training step of its own.
            ValueError: in ``fit``, for a loss whose mean over processes is unknown.
        """
        if self.size > 1:
            prepare(model, self)

    def new_keys(self, number: int = 1) -> int:
        """Return the first of new names for operations: all processes count alike."""
        self._next_key += number
        return self._next_key - number

    def meet(self, place: int, *numbers: Tensor) -> Tensor:
        """Return sums over processes, which must all have come to the same place.

        Args:
            place: of `tfpes.distribute.meeting`.
            *numbers: float64.
        """
        return meet(self, self._meeting, place, *numbers)

    def refuse_alone(self) -> None:
        """Raise a RuntimeError where parts of batches are taken for whole ones."""
        if self.size > 1:
            refuse_alone()

    def sum_tensors(self, tensor: Tensor, key: int, patience: float = 0.0) -> Tensor:
        """Return the sum over processes, also in a graph, but not under XLA.

        Args:
            tensor: of one shape in all processes, and in each use of the key.
            key: of :meth:`new_keys`.
            patience: for how long to wait for the others, s; 0 for ever.
        """
        if self.size == 1:
            return tf.identity(tensor)
        with tf.device(self._device):
            return tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                merge_op="Add",
                final_op="Id",
                timeout_seconds=patience,
                **self._group(key),
            )

    def _group(self, key: int) -> Mapping[str, Any]:
        return {
            "group_size": self.size,
            "group_key": _GROUP,
            "instance_key": key,
            "ordering_token": [],
            "communication_hint": self._hint,
        }


def _resolver() -> Any:
    """Return what tells the tasks of the cluster; None for a process alone."""
    resolvers = tf.distribute.cluster_resolver
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        # Jobs may share a machine, and each task needs a port below those that the
        # system hands out.
        job = int(os.environ.get("SLURM_JOB_ID", 0))
        # It would otherwise ask for the GPUs, and divide them in its own way.
        return resolvers.SlurmClusterResolver(
            port_base=16000 + 64 * (job % 256),
            gpus_per_node=1024,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
    resolver = resolvers.TFConfigClusterResolver()
    return resolver if len(_addresses(resolver)) > 1 else None


def _addresses(resolver: Any) -> list[tuple[str, int, str]]:
    """Return job, number and address of each task that trains, by rank."""
    jobs = resolver.cluster_spec().as_dict()
    return [
        (job, number, address)
        for job in ("chief", "worker")
        for number, address in enumerate(jobs.get(job, []))
    ]


def _tasks(resolver: Any) -> tuple[list[str], int]:
    """Return the addresses of all tasks, and the rank of this one."""
    tasks = _addresses(resolver)
    for rank, (job, number, _) in enumerate(tasks):
        if (job, number) == (resolver.task_type, resolver.task_id):
            return [address for *_, address in tasks], rank
    raise ValueError(
        "A process of a cluster is one of its workers. Received: the task "
        f"{resolver.task_type} {resolver.task_id}. Check `TF_CONFIG`."
    )


def _choose_gpu(addresses: list[str], rank: int) -> bool:
    """Keep to one GPU, and return whether there is any."""
    gpus = tf.config.list_physical_devices("GPU")
    hosts = [address.rpartition(":")[0] for address in addresses]
    place = hosts[:rank].count(hosts[rank])
    # One alone has been given to this process.
    if len(gpus) > 1:
        if place >= len(gpus):
            raise ValueError(
                "Each process takes a GPU. Received: "
                f"{hosts.count(hosts[rank])} processes on {hosts[rank]} with "
                f"{len(gpus)} GPUs. Start fewer."
            )
        tf.config.set_visible_devices(gpus[place], "GPU")
    return bool(gpus)
