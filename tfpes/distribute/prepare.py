"""Steps of a Keras model on the batches of several processes."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from tfpes.distribute.means import loss_leaves, mean_over, share_weights
from tfpes.distribute.meeting import END, EVALUATE, FIT, answered
from tfpes.targets import Tensor

_TYPES = 4
# Operations of a model, each time it is compiled.
_MOST = 4096


class _Cluster(Protocol):
    size: int
    patience: float

    def new_keys(self, number: int = 1) -> int: ...
    def meet(self, place: int, *numbers: Tensor) -> Tensor: ...
    def sum_tensors(
        self, tensor: Tensor, key: int, patience: float = 0.0
    ) -> Tensor: ...
    def all_reduce(self, values: ArrayLike) -> NDArray: ...
    def broadcast(self, values: ArrayLike) -> NDArray: ...


def prepare(model: keras.Model, cluster: _Cluster) -> None:
    """Replace what makes the steps of a model; see `Cluster.prepare`."""
    for name in ("train_step", "test_step"):
        if getattr(type(model), name) is not getattr(keras.Model, name):
            raise TypeError(
                "`Cluster.prepare` takes a model that trains as `keras.Model` does. "
                f"Received: {type(model).__name__} with a `{name}` of its own. Put "
                "what is special into `compute_loss` or `compute_metrics`, or reduce "
                "gradients there with `Cluster.sum_tensors`."
            )
    prepared = _Prepared(model, cluster)
    model.make_train_function = prepared.make_train_function
    model.make_test_function = prepared.make_test_function
    model.get_metrics_result = prepared.get_metrics_result


def is_prepared(model: keras.Model) -> bool:
    """Return whether a model works on the batches of all processes."""
    return isinstance(getattr(model.make_train_function, "__self__", None), _Prepared)


class _Prepared:
    """The hooks of a model.

    A step has parts that XLA compiles, where the model wants it, and between them the
    collective operations, which it cannot compile.
    """

    def __init__(self, model: keras.Model, cluster: _Cluster) -> None:
        self.model = model
        self.cluster = cluster
        self.local_metrics = model.get_metrics_result
        # One process alone may make a function: operations are numbered by place.
        self.keys = [itertools.count(cluster.new_keys(_MOST)) for _ in range(2)]
        # Places where weights are to be made the chief's.
        self.pending: set[int] = set()

    def make_train_function(self, force: bool = False) -> None:
        """Make `model.train_function`, as Keras asks for at the start of `fit`."""
        self.pending.add(FIT)
        if self.model.train_function is None or force:
            self.model.train_function = self._function(FIT)

    def make_test_function(self, force: bool = False) -> None:
        """Make `model.test_function`, as Keras asks for at each `evaluate`."""
        self.pending.add(EVALUATE)
        if self.model.test_function is None or force:
            self.model.test_function = self._function(EVALUATE)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return metrics of all processes at the end of an epoch, else of this one."""
        if not tf.executing_eagerly():
            return self.local_metrics()
        variables = [v for metric in self.model.metrics for v in metric.variables]
        summed = list({id(v): v for v in variables if v.aggregation == "sum"}.values())
        own = [variable.numpy() for variable in summed]
        with answered(self.cluster):
            self.cluster.meet(END)
        _assign(summed, self.cluster.all_reduce(_flat(own)))
        result = self.local_metrics()
        _assign(summed, _flat(own))
        return result

    def _function(self, place: int) -> Callable[[Any], dict[str, Tensor]]:
        """Return what Keras calls with an iterator for each execution."""
        model, steps = self.model, self.model.steps_per_execution
        step = _Step(self, place)

        def execution(iterator: tf.data.Iterator) -> dict[str, Tensor]:
            logs = step(iterator.get_next())
            if steps == 1:
                return logs

            def go_on(done: Tensor, batch: Any, logs: Any) -> Tensor:
                return tf.logical_and(done < steps, batch.has_value())

            def another(done: Tensor, batch: Any, logs: Any) -> tuple:
                logs = step(batch.get_value())
                # The iterator goes on where the next execution begins.
                batch = tf.cond(
                    done + 1 < steps, iterator.get_next_as_optional, lambda: batch
                )
                return done + 1, batch, logs

            start = (tf.constant(1), iterator.get_next_as_optional(), logs)
            return tf.while_loop(go_on, another, start)[2]

        if not model.run_eagerly:
            execution = tf.function(execution, autograph=False, reduce_retracing=True)
            single = tf.function(step, autograph=False, reduce_retracing=True)
        else:
            single = step

        def function(iterator: Iterator[Any]) -> dict[str, Tensor]:
            if isinstance(iterator, tf.data.Iterator):
                calls = [(execution, iterator)]
            else:  # of `train_on_batch`
                calls = [(single, data) for data in itertools.islice(iterator, steps)]
            with answered(self.cluster):
                if place in self.pending:
                    self._synchronize(place, *calls[0])
                return [call(argument) for call, argument in calls][-1]

        return function

    def _synchronize(self, place: int, function: Any, argument: Any) -> None:
        """Give all processes the weights and the optimizer of the chief."""
        self.cluster.meet(place)
        model = self.model
        if not model.run_eagerly:
            # Variables that are made in the first step are made now.
            function.get_concrete_function(argument)
        variables = [v.value for v in model.variables]
        if place == FIT:
            variables += [v.value for v in model.optimizer.variables]
        values = self.cluster.broadcast(_flat([v.numpy() for v in variables]))
        _assign(variables, values)
        self.pending.discard(place)


class _Step:
    """A step of `fit` or `evaluate`, in a graph."""

    def __init__(self, prepared: _Prepared, place: int) -> None:
        self.prepared = prepared
        self.model = prepared.model
        self.cluster = prepared.cluster
        self.place = place
        # A vector for each type of gradients, and one for the loss.
        self.keys = list(itertools.islice(prepared.keys[place], _TYPES))
        self.parts: list[Any] = []
        self.local, self.common = self._local, self._common
        if not self.model.run_eagerly:
            options = {"jit_compile": self.model.jit_compile, "autograph": False}
            self.local = tf.function(self._local, reduce_retracing=True, **options)
            self.common = tf.function(self._common, reduce_retracing=True, **options)

    def __call__(self, data: Any) -> dict[str, Tensor]:
        """Return the logs: the loss of all processes, metrics of this one."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        leaves = loss_leaves(self.model.loss, y)
        counts = [tf.cast(mean_over(*leaf), tf.float64) for leaf in leaves.values()]
        # Keras weights the losses of steps by rows of the first input. These may be
        # atoms, with padding that depends on how a batch is divided; rows of the first
        # target are its structures.
        rows = tf.shape(keras.tree.flatten(y)[0])[0]
        numbers = tf.stack([tf.cast(rows, tf.float64), *counts])
        total = self.cluster.meet(self.place, numbers)[: len(counts) + 1]
        share = tf.math.divide_no_nan(numbers, total) * self.cluster.size
        vectors, logs = self.local(x, y, weights, share[1:])
        vectors = [
            self.cluster.sum_tensors(vector, key) / self.cluster.size
            for vector, key in zip(vectors, self.keys, strict=False)
        ]
        return self.common(vectors, total[0], logs)

    def _local(
        self, x: Any, y: Any, weights: Any, share: Tensor
    ) -> tuple[list[Tensor], Any]:
        """Return gradients and loss as few vectors, and metrics."""
        model, training = self.model, self.place == FIT
        trackers = self._trackers()
        before = [[tf.identity(v) for v in tracker.variables] for tracker in trackers]
        for tracker in trackers:
            tracker.reset_state()
        with tf.GradientTape() as tape:
            y_pred = model(x, training=training)
            loss = model.compute_loss(
                x=x,
                y=y,
                y_pred=y_pred,
                sample_weight=share_weights(
                    model.loss, y, weights, share, self.cluster.size
                ),
                training=training,
            )
            scaled = model.optimizer.scale_loss(loss) if training else loss
        gradients = []
        if training:
            gradients = tape.gradient(scaled, model.trainable_variables)
        # Losses of outputs, and the rows that Keras weights them by.
        means = [(t.result(), tf.identity(t.count)) for t in trackers]
        for tracker, values in zip(trackers, before, strict=True):
            for variable, value in zip(tracker.variables, values, strict=True):
                variable.assign(value)
        logs = model.compute_metrics(x, y, y_pred, sample_weight=weights)
        present = [g is not None for g in gradients]
        parts = [*gradients, loss, *itertools.chain(*means)]
        dense = [tf.convert_to_tensor(part) for part in parts if part is not None]
        self.parts = [present, [(part.dtype, part.shape) for part in dense]]
        return [
            tf.concat([tf.reshape(p, [-1]) for p in dense if p.dtype == dtype], axis=0)
            for dtype in _dtypes(dense)
        ], logs

    def _common(
        self, vectors: list[Tensor], rows: Tensor, logs: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Apply the mean of the gradients, and return logs with the mean loss."""
        model = self.model
        present, described = self.parts
        rest = dict(zip(_dtypes(described), vectors, strict=True))
        dense = []
        for dtype, shape in described:
            size = shape.num_elements()
            dense.append(tf.reshape(rest[dtype][:size], shape))
            rest[dtype] = rest[dtype][size:]
        numbers = iter(dense)
        of_variables = [next(numbers) if there else None for there in present]
        if self.place == FIT:
            model.optimizer.apply(of_variables, model.trainable_variables)
        tracker = model.metrics[0]
        tracker.update_state(next(numbers), sample_weight=rows)
        for part in self._trackers():
            mean, share = next(numbers), next(numbers)
            part.update_state(mean, sample_weight=share * self.cluster.size)
        changed = (tracker, *self._trackers())
        return {**logs, **{metric.name: metric.result() for metric in changed}}

    def _trackers(self) -> list[keras.metrics.Mean]:
        """Return what follows the loss of each output, where there are several."""
        return [
            metric
            for metric in self.model.metrics[1:]
            if type(metric) is keras.metrics.Mean and metric.name.endswith("_loss")
        ]


def _dtypes(parts: Iterable[Any]) -> list[tf.DType]:
    """Return the types that occur, in a fixed order."""
    dtypes = [part[0] if isinstance(part, tuple) else part.dtype for part in parts]
    return list(dict.fromkeys(dtypes))


def _flat(arrays: Iterable[NDArray]) -> NDArray[np.float64]:
    """Return all numbers in one vector; float64 holds those of any type here."""
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)], dtype=float)


def _assign(variables: Iterable[Any], values: NDArray[np.float64]) -> None:
    for variable in variables:
        size = variable.shape.num_elements()
        variable.assign(values[:size].reshape(variable.shape))
        values = values[size:]
