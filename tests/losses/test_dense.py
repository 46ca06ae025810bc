"""Dense batches, (B, N, …), give what their atoms as rows give."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfpes
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss, force_error
from tfpes.targets import composition, pack


@pytest.fixture(scope="module")
def molecules():
    """Return arguments of `pack`: six molecules of two to five atoms, and rows."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(1, 9, (6, 5))
    numbers[1, 3:] = numbers[2, 4] = numbers[4, 2:] = 0
    forces = rng.normal(size=(6, 5, 3))
    forces[0, 1, 2] = np.nan
    labels = {"energy": -1e5 * rng.random(6), "forces": forces}
    return {**labels, "atomic_numbers": numbers}, numbers > 0


def flattened(molecules):
    dense, real = molecules
    rows = {key: dense[key][real] for key in ("forces", "atomic_numbers")}
    return {**dense, **rows, "structure_index": np.nonzero(real)[0]}


@pytest.fixture(scope="module")
def targets(molecules):
    return pack(**molecules[0]), pack(**flattened(molecules))


@pytest.fixture(scope="module")
def norm(targets):
    norm = PESNormalization()
    norm.adapt(targets[1])
    return norm


def test_adapt(targets, norm, molecules):
    weights = np.random.default_rng(1).random((6, 5))
    flat, by_row = {"forces": weights[molecules[1]]}, {"forces": weights[:, 0]}
    learned = [PESNormalization() for _ in range(4)]
    learned[0].adapt(targets[0])
    learned[1].adapt(({}, targets[0], {"forces": weights}))
    learned[2].adapt(({}, targets[1], flat))
    learned[3].adapt(({}, targets[0], by_row))
    for name, value in norm.statistics.items():
        np.testing.assert_array_equal(learned[0].statistics[name], value)
        np.testing.assert_allclose(
            learned[1].statistics[name], learned[2].statistics[name], rtol=1e-14
        )
    assert learned[3].statistics["force_scale"][1] != norm.statistics["force_scale"][1]


def test_layer_there_and_back(targets, norm):
    standardized = norm(targets[0])
    assert standardized["forces"].shape == (6, 5, 4)
    back = PESNormalization.from_config({**norm.get_config(), "invert": True})
    np.testing.assert_allclose(
        back(standardized)["forces"], targets[0]["forces"], rtol=1e-6
    )


@pytest.mark.parametrize("average", ["atoms", "structures"])
@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight", "sum"])
def test_losses_and_weights(targets, norm, molecules, average, reduction):
    rng, real = np.random.default_rng(1), molecules[1]
    guess, of_rows = rng.normal(size=(6, 5, 3)), rng.uniform(0.5, 2, 6)
    of_atoms = np.repeat(of_rows[:, None], 5, axis=1)
    loss = ForceLoss(norm, average=average, reduction=reduction, dtype="float64")
    for weights in (
        None,
        0.5,
        of_rows,
        of_rows[:, None],
        of_atoms,
        of_atoms[..., None],
    ):
        rows = weights if weights is None or np.ndim(weights) == 0 else of_atoms[real]
        found = loss(targets[0]["forces"], guess, weights)
        assert float(found) == pytest.approx(
            float(loss(targets[1]["forces"], guess[real], rows)), rel=1e-12
        )
    assert loss.count(targets[0]["forces"]) == loss.count(targets[1]["forces"])


def test_what_is_not_reduced_has_the_shape_of_the_batch(targets, norm, molecules):
    guess = np.random.default_rng(1).normal(size=(6, 5, 3))
    target, flat = (part["forces"] for part in targets)
    errors, present = force_error(norm, target, guess)
    expected, there = force_error(norm, flat, guess[molecules[1]])
    np.testing.assert_array_equal(errors[molecules[1]], expected)
    np.testing.assert_array_equal(present[molecules[1]], there)
    assert not present[~molecules[1]].numpy().any()
    assert ForceLoss(norm, reduction="none")(target, guess).shape == (6, 5)
    loss = ForceLoss(norm, average="structures", reduction="none")
    found, rows = loss(target, guess), loss(flat, guess[molecules[1]])
    np.testing.assert_allclose(found, rows[:6], rtol=1e-6)
    np.testing.assert_array_equal(loss.call(target, guess), found)


def test_metrics(targets, norm, molecules):
    rng, real = np.random.default_rng(1), molecules[1]
    guess, weights = rng.normal(size=(6, 5, 3)), rng.uniform(0.5, 2, 6)
    for metric in (
        tfpes.metrics.ForceMAE(),
        tfpes.metrics.ForceRMSE("H"),
        tfpes.metrics.ForceCosine(),
        tfpes.metrics.MaxForceError(),
        tfpes.metrics.StandardizedRMSE(norm, "forces"),
    ):
        metric.update_state(targets[0]["forces"], guess, weights)
        found = float(metric.result())
        metric.reset_state()
        metric.update_state(targets[1]["forces"], guess[real], weights)
        assert found == pytest.approx(float(metric.result()), rel=1e-6)
    metric, energy = tfpes.metrics.EFwT(1e6, 2.0), targets[0]["energy"][:, 0]
    metric.update_state(targets[0], {"energy": energy, "forces": guess})
    found = float(metric.result())
    metric.reset_state()
    metric.update_state(targets[1], {"energy": energy, "forces": guess[real]})
    assert 0 < found == float(metric.result()) < 1


class Pairs(keras.Model):
    """A dense model of pairs, as its author may have it; forces flat if asked for."""

    def __init__(self, norm, flat):
        super().__init__(autocast=False)
        self.norm, self.flat = norm, flat
        self.pair = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")

    def call(self, inputs):
        numbers, positions = inputs["numbers"], inputs["positions"]
        real = tf.cast(numbers > 0, positions.dtype)
        with tf.GradientTape() as tape:
            tape.watch(positions)
            square = tf.reduce_sum(
                (positions[:, :, None] - positions[:, None]) ** 2, -1
            )
            basis = tf.exp(-square[..., None] * [0.1, 0.3, 1.0])
            pairs = self.pair(basis)[..., 0] * real[:, :, None] * real[:, None]
            energy = tf.reduce_sum(pairs, axis=(1, 2))
        forces = -tape.gradient(energy, positions)
        if self.flat:
            forces = tf.boolean_mask(forces, numbers > 0)
        baseline = self.norm.energy_baseline(composition(numbers))
        return {"energy": tf.cast(energy, tf.float64) + baseline, "forces": forces}


@pytest.mark.slow
def test_fit_on_arrays(shared):
    """`fit(x, y, validation_split=...)` as on the flat pipeline, with padding."""
    structures = shared("acac_botnet")
    labelled = np.isfinite(structures.forces[structures.atom_offsets[:-1], 0])
    structures = structures[labelled & (structures.num_atoms == 15)][:160]

    def dense(values):
        shape = (len(structures), 15, *values.shape[1:])
        padding = [(0, 0), (0, 1)] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values.reshape(shape), padding)

    positions, numbers, forces = map(
        dense, (structures.positions, structures.atomic_numbers, structures.forces)
    )
    x = {"positions": positions, "numbers": numbers}
    y = pack(energy=structures.energy, forces=forces, atomic_numbers=numbers)
    y = {key: value.numpy() for key, value in y.items()}
    norm = PESNormalization()
    norm.adapt(y)

    def batches(rows):
        for start in range(rows.start, rows.stop, 32):
            part = slice(start, min(start + 32, rows.stop))
            real = numbers[part] > 0
            yield (
                {key: value[part] for key, value in x.items()},
                pack(
                    energy=structures.energy[part],
                    forces=forces[part][real],
                    atomic_numbers=numbers[part][real],
                    structure_index=np.nonzero(real)[0],
                ),
            )

    def flat(*rows):
        signature = tf.nest.map_structure(
            lambda part: tf.TensorSpec((None, *part.shape[1:]), part.dtype),
            next(batches(slice(0, 32))),
        )
        return tf.data.Dataset.from_generator(
            lambda: batches(slice(*rows)), output_signature=signature
        ).apply(tf.data.experimental.assert_cardinality(-((rows[0] - rows[1]) // 32)))

    def fit(is_flat, *data, **options):
        model = Pairs(norm, is_flat)
        model.compile(
            keras.optimizers.Adam(0.01),
            loss={"energy": EnergyLoss(norm), "forces": ForceLoss(norm)},
            metrics={"forces": [tfpes.metrics.ForceMAE()]},
            jit_compile=False,
        )
        options |= {"epochs": 2, "verbose": 0, "shuffle": False}
        return model.fit(*data, **options).history

    found = fit(False, x, y, batch_size=32, validation_split=0.1)
    expected = fit(True, flat(0, 144), validation_data=flat(144, 160))
    assert found.keys() == expected.keys()
    assert len(found) == 8
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-6)
    dense = tfpes.evaluate(Pairs(norm, flat=False), [(x, y)])
    rows = tfpes.evaluate(Pairs(norm, flat=True), flat(0, 160))
    assert dense.overall.force_rmse == pytest.approx(rows.overall.force_rmse, rel=1e-6)
    assert abs(found["loss"][1] - found["loss"][0]) > 1e-3  # steps were taken
