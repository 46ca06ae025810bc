"""Facts of Keras and TensorFlow that the package relies on, or works around.

A failure here after an upgrade says which code to look at again.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

LARGE = -123456.789012345


def test_layers_cast_float64_inputs():
    # Hence `autocast=False` in PESNormalization.
    class Identity(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    value = tf.constant([LARGE], tf.float64)
    assert Identity()(value).dtype == tf.float32
    assert Identity(dtype="float64")(value).dtype == tf.float64
    same = Identity(autocast=False)(value)
    assert same.dtype == tf.float64
    assert same.numpy()[0] == LARGE
    assert Identity()(tf.constant([1])).dtype == tf.int32


def test_weights_are_cast_unless_told_otherwise(policy):
    policy("mixed_float16")

    class Weights(keras.layers.Layer):
        def __init__(self, autocast):
            super().__init__()
            self.value = self.add_weight(
                shape=(), initializer="zeros", dtype="float64", autocast=autocast
            )
            self.value.assign(LARGE)

        def call(self, inputs):
            return tf.convert_to_tensor(self.value)

    assert np.isinf(Weights(True)(tf.zeros(1)))
    kept = Weights(False)(tf.zeros(1))
    assert kept.dtype == tf.float64
    assert kept.numpy() == LARGE


def test_plain_layer_keeps_integers_in_a_dataset_map():
    class Identity(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    layer = Identity(autocast=False)
    dataset = tf.data.Dataset.from_tensors(np.array([1, 2])).map(layer)
    assert dataset.element_spec.dtype == tf.int64


def test_normalization_of_keras_caches_its_statistics():
    # Hence statistics are read from weights in each call.
    layer = keras.layers.Normalization()
    layer.adapt(np.array([[1.0], [3.0]], np.float32))
    function = tf.function(layer)
    before = function(tf.constant([[2.0]])).numpy()
    layer.adapt(np.array([[100.0], [300.0]], np.float32))
    assert function(tf.constant([[2.0]])).numpy() == before


def test_loss_call_casts_targets():
    # Hence StandardizedLoss replaces `__call__`.
    seen = []

    class Spy(keras.losses.Loss):
        def call(self, y_true, y_pred):
            seen.append((y_true.dtype, y_pred.dtype))
            return y_pred

    Spy()(tf.constant([1, 2]), tf.constant([LARGE, 1.0], tf.float64))
    assert seen == [(tf.float32, tf.float32)]


def test_loss_config_drops_the_dtype():
    class Plain(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    assert "dtype" not in Plain(dtype="float64").get_config()


def test_loss_divides_by_all_rows():
    # Padding and missing labels included, whatever the weights.
    loss = keras.losses.MeanAbsoluteError()
    value = loss(np.zeros((4, 1)), np.ones((4, 1)), np.array([1.0, 0.0, 0.0, 0.0]))
    assert value == 0.25


def test_mean_with_sample_weight_divides_by_the_weights():
    loss = keras.losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    value = loss(np.zeros((4, 1)), np.ones((4, 1)), np.array([1.0, 0.0, 0.0, 0.5]))
    assert value == 1.0


def test_mean_squared_error_reduces_the_only_axis():
    loss = keras.losses.MeanSquaredError(reduction=None)
    assert loss(np.zeros(4), np.ones(4)).shape == ()


def test_a_loss_that_replaces_call_gets_targets_as_they_are():
    seen = {}

    class Whole(keras.losses.Loss):
        def __call__(self, y_true, y_pred, sample_weight=None):
            seen["dtype"] = y_true.dtype, y_pred.dtype
            seen["weight"] = None if sample_weight is None else sample_weight.shape
            return tf.reduce_sum(y_pred)

        call = __call__

    compiled = keras.src.trainers.compile_utils.CompileLoss({"energy": Whole()})
    true = {"energy": tf.constant([[LARGE, 1.0]], tf.float64)}
    pred = {"energy": tf.constant([LARGE], tf.float64)}
    compiled(true, pred, {"energy": tf.ones(1)})
    assert seen == {"dtype": (tf.float64, tf.float64), "weight": (1,)}


def tiny_model():
    inputs = keras.Input((1,), name="x")
    energy = keras.layers.Dense(1)(inputs)
    return keras.Model({"x": inputs}, {"energy": energy, "forces": energy})


def test_targets_are_dicts_with_the_keys_of_the_losses():
    model = tiny_model()
    model.compile(loss={"energy": "mse", "forces": "mse"})
    x, y = {"x": np.ones((2, 1))}, np.ones((2, 1))
    model.evaluate(x, {"energy": y, "forces": y}, verbose=0)
    with pytest.raises((KeyError, ValueError)):
        model.evaluate(x, {"energy": y, "forces": y, "dipole": y}, verbose=0)
    with pytest.raises((KeyError, ValueError)):
        model.evaluate(x, {"energy": y}, verbose=0)


def test_a_target_that_is_a_dict_under_a_key_fails():
    # Hence labels are packed with their composition into one tensor.
    model = tiny_model()
    model.compile(loss={"energy": "mse"})
    y = {"energy": {"label": np.ones((2, 1)), "counts": np.ones((2, 1))}}
    with pytest.raises((KeyError, ValueError, TypeError)):
        model.evaluate({"x": np.ones((2, 1))}, y, verbose=0)


def test_outputs_without_a_loss_are_allowed():
    model = tiny_model()
    model.compile(loss={"energy": "mse"})
    data = {"x": np.ones((2, 1))}, {"energy": np.ones((2, 1))}
    value = model.evaluate(*data, verbose=0)
    assert np.isfinite(value)


def test_epoch_loss_is_weighted_by_the_first_dimension_of_the_first_input():
    # Hence errors are read from metrics that keep their own counts.
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model({"a": a, "b": b}, {"y": keras.layers.Add()([a, b])})
    model.compile(loss={"y": "mae"}, jit_compile=False)

    def batches():
        for rows, value in ((1, 3.0), (3, 1.0)):
            zeros = np.zeros((rows, 1))
            yield {"a": zeros, "b": zeros + value}, {"y": zeros}

    rows = tf.TensorSpec((None, 1), tf.float32)
    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=({"a": rows, "b": rows}, {"y": rows})
    ).apply(tf.data.experimental.assert_cardinality(2))
    assert model.evaluate(dataset, verbose=0) == pytest.approx(6 / 4)


def test_xla_compiles_once_per_shape():
    # Hence batches are padded to a few shapes.
    function = tf.function(lambda x: tf.reduce_sum(x), jit_compile=True)
    for rows in (2, 3, 2, 3, 3):
        function(tf.ones((rows, 3)))
    assert function.experimental_get_tracing_count() == 2


def test_metrics_do_not_see_weights():
    model = tiny_model()
    model.compile(loss={"energy": "mse", "forces": "mse"}, metrics={"energy": ["mae"]})
    weights = dict.fromkeys(["energy", "forces"], np.array([1.0, 0.0]))
    x, y = {"x": np.zeros((2, 1))}, np.array([[1.0], [3.0]])
    y = {"energy": y, "forces": y}
    logs = model.evaluate(x, y, sample_weight=weights, return_dict=True, verbose=0)
    assert logs["energy_mae"] == 2.0


def test_metric_variables_take_the_dtype_they_are_given():
    class Sum(keras.metrics.Metric):
        def __init__(self):
            super().__init__(dtype="float64")
            self.default = self.add_variable((), "zeros")
            self.given = self.add_variable((), "zeros", dtype=self.dtype)

    assert Sum().given.dtype == "float64"


def test_zero_times_nan_and_the_gradient_of_where():
    # Hence labels are replaced before the arithmetic.
    x = tf.Variable([1.0, 1.0])
    label = tf.constant([2.0, np.nan])
    with tf.GradientTape(persistent=True) as tape:
        missing = tf.math.is_nan(label)
        after = tf.reduce_sum(tf.where(missing, 0.0, x * label))
        before = tf.reduce_sum(x * tf.where(missing, 0.0, label))
    assert after == before == 2.0
    assert np.isnan(tape.gradient(after, x)[1])
    assert tape.gradient(before, x)[1] == 0.0


def test_shapes_broadcast_silently():
    error = keras.losses.mean_squared_error(np.zeros((4, 1)), np.ones((4, 4)))
    assert error.shape == (4,)
    assert (tf.zeros(4) - tf.zeros((4, 1))).shape == (4, 4)


def test_gradient_through_gather_is_no_tensor():
    positions = tf.Variable(np.ones((3, 3)))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.gather(positions, [0, 0, 2]) ** 2)
    gradient = tape.gradient(value, positions)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(
        tf.convert_to_tensor(gradient), [[4.0] * 3, [0.0] * 3, [2.0] * 3]
    )


def test_segment_sums_under_xla():
    @tf.function(jit_compile=True)
    def total(values, index):
        return tf.math.unsorted_segment_sum(values, index, 4)

    values = np.array([1.5, LARGE, 2.0, 4.0])
    found = total(values, np.array([0, 2, 2, 3], np.int32))
    assert found.dtype == tf.float64
    np.testing.assert_array_equal(found, [1.5, 0.0, LARGE + 2.0, 4.0])


def test_segments_out_of_range_are_dropped():
    total = tf.math.unsorted_segment_sum([1.0, 2.0], [-1, 0], 1)
    assert total.numpy() == [2.0]


def test_variables_are_read_anew_in_a_traced_function():
    variable = keras.Variable(np.float64(1.0), dtype="float64", autocast=False)
    function = tf.function(lambda: tf.convert_to_tensor(variable))
    assert function() == 1.0
    variable.assign(2.0)
    assert function() == 2.0


def test_registered_names():
    name = keras.saving.get_registered_name
    from tfpes import layers, losses, metrics, models

    for module, classes in (
        (layers, ["PESNormalization"]),
        (losses, ["EnergyLoss", "ForceLoss", "VirialLoss"]),
        (metrics, ["EnergyMAE", "EnergyRMSE", "ForceMAE", "ForceRMSE"]),
        (models, ["Potential", "SchNet"]),
    ):
        for each in classes:
            assert name(getattr(module, each)) == f"tfpes>{each}"


def test_known_cardinality_counts_batches_once():
    dataset = tf.data.Dataset.from_tensor_slices(np.ones((3, 2, 1), np.float32))
    unknown = dataset.filter(lambda _: True)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    known = unknown.apply(tf.data.experimental.assert_cardinality(3))
    assert len(known) == 3


@pytest.mark.parametrize("backend", ["jax", "numpy"])  # not installed; installed
def test_another_backend_is_refused_at_import(backend, run_python):
    script = f"""
import os
os.environ["KERAS_BACKEND"] = "{backend}"
try:
    import tfpes
except ImportError as error:
    print(error)
"""
    said = run_python(script)
    assert f"Keras with the backend '{backend}'. Set KERAS_BACKEND=tensorflow" in said
