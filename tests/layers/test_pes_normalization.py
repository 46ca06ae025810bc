"""Formulas, given statistics, precision and serialization of the layer."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfpes.layers import PESNormalization
from tfpes.targets import structure_target

MEAN = {"H": -13.6, "O": -430.25, "Cu": -1640.5}
VARIANCE = {"H": 0.04, "O": 0.25, "Cu": 0.5}
FORCE = {"H": 0.5, "O": 1.5, "Cu": 2.5}
VIRIAL = {"H": 0.75, "O": 1.25, "Cu": 3.0}
NUMBERS = {"H": 1, "O": 8, "Cu": 29}
KAPPA2 = 0.0625


def given_norm(**options):
    return PESNormalization(
        **{
            "energy_mean": MEAN,
            "energy_variance": VARIANCE,
            "collective_variance": KAPPA2,
            "force_scale": FORCE,
            "virial_scale": VIRIAL,
            **options,
        }
    )


@pytest.fixture(scope="module")
def norm():
    return given_norm()


@pytest.fixture(scope="module")
def counts(dense):
    return dense({1: 2, 8: 1}, {29: 4}, {1: 3, 8: 7, 29: 100}, {}, {8: 1})


def sums(counts, values):
    return [
        sum(row[NUMBERS[symbol]] * value for symbol, value in values.items())
        for row in counts
    ]


def packed(rng, counts):
    """Return packed targets with some labels missing, made by hand."""
    size = len(counts)
    energy = rng.normal(size=(size, 1)) - 1e3
    energy[1] = np.nan
    energy[~counts.any(axis=1)] = np.nan  # without atoms
    low = np.nan_to_num(energy - np.float32(energy))
    virial = rng.normal(size=(size, 9))
    virial[0] = np.nan
    virial[~counts.any(axis=1)] = np.nan
    numbers = np.array([1, 8, 1, 29, 0, 0])
    forces = rng.normal(size=(6, 3))
    forces[2, 1] = np.nan
    forces[4:] = np.nan
    index = np.array([0, 0, 0, 1, 3, 3])
    return {
        "energy": np.hstack([energy, low, counts]),
        "virial": np.hstack([virial, counts]),
        "forces": np.hstack([forces, numbers[:, None], index[:, None]]).astype("f4"),
    }


# -- formulas -----------------------------------------------------------------------


def test_baseline(norm, counts, close):
    close(norm.energy_baseline(counts), sums(counts, MEAN))


@pytest.mark.parametrize("kappa2", [0.0, KAPPA2])
def test_energy_scale(counts, kappa2, close):
    scale = given_norm(collective_variance=kappa2).energy_scale(counts).numpy()
    for row, variance, actual in zip(
        counts, sums(counts, VARIANCE), scale, strict=True
    ):
        expected = np.sqrt(variance + row.sum() ** 2 * kappa2) if row.any() else 1.0
        close(actual, expected)


def test_virial_scale(norm, counts, close):
    squares = {symbol: value**2 for symbol, value in VIRIAL.items()}
    expected = np.sqrt(sums(counts, squares))
    expected[3] = 1.0
    close(norm.virial_scale_of(counts), expected)


def test_atomic_energy_scale(norm, close):
    scale = norm.atomic_energy_scale().numpy()
    assert scale.shape == (119,)
    assert scale[0] == 0.0
    for symbol, variance in VARIANCE.items():
        close(scale[NUMBERS[symbol]], np.sqrt(variance + KAPPA2))


def test_standardize_energy(norm, counts, close):
    energy = np.array([-457.0, -6563.5, -167000.25, 5.0, np.nan])
    expected = [
        (e - b) / (np.sqrt(v + row.sum() ** 2 * KAPPA2) if row.any() else 1.0)
        for e, b, v, row in zip(
            energy, sums(counts, MEAN), sums(counts, VARIANCE), counts, strict=True
        )
    ]
    standardized = norm.standardize_energy(energy, counts)
    assert standardized.dtype == tf.float64
    close(standardized, expected)
    close(norm.destandardize_energy(standardized, counts), energy)


@pytest.mark.parametrize("kind", [list, np.array, tf.constant])
def test_numbers_of_any_kind_keep_their_digits(norm, kind):
    energy, counts = -123456.789012345, [[0.0] * 8 + [3.0] + [0.0] * 110]
    value = [energy] if kind is list else kind([energy], "float64")
    found = norm.standardize_energy(value, kind(counts)).numpy()
    scale = np.sqrt(3 * VARIANCE["O"] + 9 * KAPPA2)
    np.testing.assert_allclose(found, (energy - 3 * MEAN["O"]) / scale, rtol=1e-14)
    back = norm.destandardize_energy(kind(found), kind(counts)).numpy()
    np.testing.assert_allclose(back, energy, rtol=1e-14)
    forces = norm.standardize_forces(kind([[1, 2, 3]]), kind([8])).numpy()
    np.testing.assert_allclose(forces, np.array([[1, 2, 3]]) / FORCE["O"], rtol=1e-14)
    virial = kind([[[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]]])
    tau = VIRIAL["O"] * np.sqrt(3)
    found = norm.standardize_virial(virial, kind(counts)).numpy()
    rounding = 1e-7 if kind is tf.constant else 1e-14
    np.testing.assert_allclose(found, np.array(virial) / tau, rtol=rounding)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_standardize_forces(norm, dtype, close):
    numbers = [1, 29, 8, 0]
    forces = np.arange(12, dtype=dtype).reshape(4, 3)
    # Padding is divided by the mean of the given scales: it is finite.
    scale = np.array([0.5, 2.5, 1.5, 1.5], dtype)[:, None]
    standardized = norm.standardize_forces(forces, numbers)
    assert standardized.dtype == dtype
    close(standardized, forces / scale, dtype)
    close(norm.destandardize_forces(standardized, numbers), forces, dtype)


def test_standardize_virial(norm, counts, close):
    virial = np.random.default_rng(0).normal(size=(5, 3, 3))
    scale = norm.virial_scale_of(counts).numpy()
    standardized = norm.standardize_virial(virial, counts)
    # One scale, given alone, is that of all components, the pressure among them.
    real = counts.any(axis=1)
    close(standardized[real], virial[real] / scale[real, None, None])
    close(norm.destandardize_virial(standardized, counts), virial)


def test_standardize_pressure_and_deviator(counts, close):
    layer = given_norm(
        pressure_scale={"H": 0.1, "O": 0.3, "Cu": 7.0},
        pressure_mean={"H": 1.0, "O": -2.0, "Cu": 3.0},
    )
    layer.assign_statistics(
        {"collective_pressure_variance": 0.4, "collective_virial_variance": 0.09}
    )
    virial = np.random.default_rng(0).normal(size=(5, 3, 3))
    virial += np.swapaxes(virial, 1, 2)
    found = layer.standardize_virial(virial, counts).numpy()
    size = counts.sum(axis=1)
    for w, row, n, mine in zip(virial, counts, size, found, strict=True):
        h, o, cu = row[[1, 8, 29]]
        s_p = np.sqrt(h * 0.01 + o * 0.09 + cu * 49 + n**2 * 0.4) if n else 1.0
        squares = sum(row[NUMBERS[z]] * tau**2 for z, tau in VIRIAL.items())
        s_d = np.sqrt(squares + n**2 * 0.09) if n else 1.0
        pressure = (np.trace(w) / 3 - (h - 2 * o + 3 * cu)) / s_p
        close(np.trace(mine), pressure * np.sqrt(3), scale=1.0)
        deviator = w - np.trace(w) / 3 * np.eye(3)
        close(mine - np.trace(mine) / 3 * np.eye(3), deviator / s_d, scale=1.0)
        # As many squares as components: 1 + 5.
        square = pressure**2 + np.sum(deviator**2) / s_d**2
        close(np.sum(mine**2), square, scale=square)
    close(layer.destandardize_virial(found, counts), virial, "network64")


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 1), st.floats(-1e5, 1e5))
def test_scale_of_a_supercell(oxygen, copies, kappa2, mean):
    layer = PESNormalization(
        energy_mean={"O": mean}, energy_variance={"O": 0.5}, collective_variance=kappa2
    )
    cell = np.zeros((2, 119))
    cell[:, 8] = oxygen, oxygen * copies
    small, large = layer.energy_scale(cell).numpy() ** 2
    random = oxygen * 0.5 * copies
    collective = kappa2 * (oxygen * copies) ** 2
    np.testing.assert_allclose(large, random + collective, rtol=1e-12)
    assert large <= small * copies**2 * (1 + 1e-12)


# -- call ---------------------------------------------------------------------------


@pytest.mark.parametrize("graph_mode", [False, True])
def test_call_round_trip(norm, counts, graph_mode, close):
    targets = packed(np.random.default_rng(0), counts)
    inverse = PESNormalization.from_config({**norm.get_config(), "invert": True})
    forward = tf.function(norm) if graph_mode else norm
    standardized = forward(targets)
    energy = norm.standardize_energy(targets["energy"][:, 0], counts)
    close(standardized["energy"][:, 0], energy)
    scale = norm.virial_scale_of(counts).numpy()[:, None]
    real = counts.any(axis=1)
    expected = (targets["virial"][:, :9] / scale)[real]
    close(standardized["virial"].numpy()[real, :9], expected)
    eta = norm.force_scale.numpy()[[1, 8, 1, 29, 0, 0], None]
    close(standardized["forces"][:, :3], targets["forces"][:, :3] / eta, "float32")
    restored = inverse(standardized)
    for key, dtype in (("energy", 64), ("virial", 64), ("forces", 32)):
        assert standardized[key].dtype == f"float{dtype}"
        tail = slice(-119, None) if dtype == 64 else slice(3, None)
        np.testing.assert_array_equal(standardized[key][:, tail], targets[key][:, tail])
        np.testing.assert_array_equal(
            np.isnan(standardized[key]), np.isnan(targets[key])
        )
        close(restored[key], targets[key], f"float{dtype}")


def test_call_in_a_dataset_map(structures, close):
    layer = PESNormalization()
    layer.adapt(structures.batches(4))
    inverse = PESNormalization.from_config({**layer.get_config(), "invert": True})
    dataset = structures.batches(4)
    mapped = dataset.map(lambda inputs, targets: (inputs, layer(targets)))
    back = mapped.map(lambda inputs, targets: inverse(targets))
    assert mapped.element_spec[1]["energy"].dtype == tf.float64
    for (_, plain), (_, changed), restored in zip(dataset, mapped, back, strict=True):
        energy, counts = plain["energy"][:, 0], plain["energy"][:, 2:]
        expected = layer.standardize_energy(energy, counts)
        close(changed["energy"][:, 0], expected)
        close(restored["energy"], plain["energy"])
        close(restored["forces"], plain["forces"], "float32")


def test_call_passes_other_keys_through(structures):
    layer = PESNormalization()
    layer.adapt(structures.batches(4))
    _, targets = next(iter(structures.batches(4)))
    found = layer({**targets, "dipole": tf.constant([7.0])})
    assert list(found) == [*targets, "dipole"]
    assert found["dipole"].numpy().tolist() == [7.0]
    np.testing.assert_array_equal(found["energy"], layer(targets)["energy"])


def test_call_of_energies_alone(norm):
    with pytest.raises(TypeError, match=r"targets of a batch, a dict.*`standardize_en"):
        norm(np.zeros(5))


def test_call_of_unknown_key(norm, counts):
    with pytest.raises(ValueError, match=r"the keys 'energy',.*Received: 'stress'"):
        norm({"stress": np.zeros((5, 121))})


def test_call_of_labels_that_are_not_packed(norm):
    with pytest.raises(ValueError, match=r"shape \(S, 121\)"):
        norm({"energy": np.zeros(5)})


# -- given statistics ---------------------------------------------------------------


def test_given_statistics_are_adapted(norm):
    assert norm.is_adapted
    norm.require_adapted()
    assert norm.seen.numpy().nonzero()[0].tolist() == [1, 8, 29]


def test_elements_that_are_not_given_take_the_mean_of_the_others(norm):
    assert norm.force_scale.numpy()[6] == 1.5
    assert norm.virial_scale.numpy()[6] == (0.75 + 1.25 + 3.0) / 3
    assert norm.energy_variance.numpy()[0] == 0.0


def test_arrays_are_taken_as_well(counts, norm):
    arrays = {}
    for name, values in (("energy_mean", MEAN), ("energy_variance", VARIANCE)):
        arrays[name] = np.full(119, np.nan)
        for symbol, value in values.items():
            arrays[name][NUMBERS[symbol]] = value
    other = given_norm(**arrays)
    np.testing.assert_array_equal(other.energy_scale(counts), norm.energy_scale(counts))
    np.testing.assert_array_equal(
        other.energy_baseline(counts), norm.energy_baseline(counts)
    )


def test_weights_of_one_layer_are_given_to_another(norm, counts):
    # Their column 0, of padding, is 0.
    names = ("energy_mean", "energy_variance", "force_scale", "virial_scale")
    arrays = {name: getattr(norm, name).numpy() for name in names}
    layer = given_norm(**arrays)
    for other in (layer, PESNormalization.from_config(layer.get_config())):
        for name, value in arrays.items():
            np.testing.assert_array_equal(getattr(other, name)[1:], value[1:])
        same_outputs(norm, other, counts)


def test_unseen_element(norm, dense):
    counts = dense({1: 1}, {8: 2}, {1: 1, 79: 2})
    message = r"knows the elements H, O, Cu\. Received: structure 2 holds Au\. Adapt"
    with pytest.raises(ValueError, match=message):
        norm.standardize_energy(np.zeros(3), counts)
    with pytest.raises(ValueError, match=message):
        norm.energy_baseline(counts)
    with pytest.raises(ValueError, match=message):
        norm.standardize_virial(np.zeros((3, 3, 3)), counts)
    # A graph cannot raise: it says so by a number that is none.
    for function in (norm.energy_baseline, norm.energy_scale, norm.virial_scale_of):
        values = tf.function(function)(counts).numpy()
        assert np.isnan(values).tolist() == [False, False, True]
    scale = norm.force_scale_of([1, 79, 0]).numpy()
    assert np.isnan(scale).tolist() == [False, True, False]
    assert np.isnan(norm.atomic_energy_scale().numpy()[[0, 1, 79]]).tolist() == [
        False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("energy_mean", np.inf, "`energy_mean` must be finite"),
        ("energy_variance", 0.0, "must be finite and positive. Received: {'H': 0.0}"),
        ("energy_variance", -1.0, "`energy_variance` must be finite and positive"),
        ("force_scale", -1.0, "`force_scale` must be finite and positive"),
        ("virial_scale", np.inf, "`virial_scale` must be finite and positive"),
    ],
)
def test_given_values_that_make_no_sense(name, value, message):
    with pytest.raises(ValueError, match=message):
        PESNormalization(**{name: {"H": value}})


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_collective_variance_that_makes_no_sense(value):
    with pytest.raises(ValueError, match=r"must not be negative.*Received: "):
        PESNormalization(collective_variance=value)


def test_given_unknown_element():
    with pytest.raises(ValueError, match=r"Keys of `force_scale`.*Received: 'Hx'"):
        PESNormalization(force_scale={"Hx": 1.0})


# -- precision ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "float64", "mixed_float16", "bfloat16"])
def test_statistics_are_float64_under_any_policy(name, policy, structures, counts):
    reference = PESNormalization()
    reference.adapt(structures.batches(4, labels=("energy", "forces", "virial")))
    policy(name)
    layer = PESNormalization()
    layer.adapt(structures.batches(4, labels=("energy", "forces", "virial")))
    for ours, theirs in zip(layer.weights, reference.weights, strict=True):
        assert ours.dtype == "float64"
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    # The call, too: energies of -1e5 eV arrive as they are.
    counts = np.zeros((2, 119))
    counts[:, 29] = 3
    target = structure_target([-123456.789012345, 1.0], counts).numpy()
    expected = (target[:, 0] - 3 * layer.energy_mean.numpy()[29]) / np.sqrt(
        3 * layer.energy_variance.numpy()[29]
    )
    standardized = layer({"energy": target})["energy"].numpy()[:, 0]
    np.testing.assert_allclose(standardized, expected, rtol=1e-12)


def test_weights_are_not_trainable():
    layer = PESNormalization()
    assert not layer.trainable_weights
    assert len(layer.weights) == 10


# -- serialization ------------------------------------------------------------------


def outputs(layer, targets):
    return {key: value.numpy() for key, value in layer(targets).items()}


def same_outputs(left, right, counts):
    targets = packed(np.random.default_rng(1), counts)
    a, b = outputs(left, targets), outputs(right, targets)
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key])


def test_config_carries_the_statistics(structures):
    layer = PESNormalization(
        energy_mean={"Cu": -3.5},
        size_law="collective",
        per_element=False,
        prior_strength=3.0,
        robust=True,
        isolated_atoms="include",
        name="scales",
    )
    layer.adapt(structures.batches(4, labels=("energy", "forces", "virial")))
    config = layer.get_config()
    copy = PESNormalization.from_config(config)
    assert copy.get_config() == config
    counts = np.zeros((5, 119))
    counts[:, [1, 8, 29]] = np.random.default_rng(0).integers(1, 9, (5, 3))
    same_outputs(layer, copy, counts)
    assert copy.name == "scales"
    for ours, theirs in zip(layer.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    # The options arrive: a fit to the same data gives the same.
    copy.adapt(structures.batches(4, labels=("energy", "forces", "virial")))
    same_outputs(layer, copy, counts)


def test_config_before_adapt():
    layer = PESNormalization(size_law="auto")
    copy = PESNormalization.from_config(layer.get_config())
    assert not copy.is_adapted
    assert copy.options.size_law == "auto"


def test_config_can_be_written_as_json(norm, counts):
    text = keras.saving.serialize_keras_object(norm)
    same_outputs(norm, keras.saving.deserialize_keras_object(text), counts)


def test_functional_model_file(norm, counts, tmp_path, close):
    inputs = {
        "energy": keras.Input((121,), dtype="float64", name="energy"),
        "forces": keras.Input((5,), name="forces"),
    }
    model = keras.Model(inputs, norm(inputs))
    model.save(tmp_path / "norm.keras")
    loaded = keras.models.load_model(tmp_path / "norm.keras")
    clone = keras.models.clone_model(model)
    targets = packed(np.random.default_rng(2), counts)
    targets = {key: tf.constant(targets[key]) for key in inputs}
    expected = norm(targets)
    for other in (loaded, clone):
        for key, value in other(targets).items():
            close(value, expected[key])


def test_file_without_a_weight(norm):
    store = {}
    norm.save_own_variables(store)
    del store["seen"], store["force_scale"]
    with pytest.raises(ValueError, match=r"without force_scale, seen. It was not writ"):
        given_norm().load_own_variables(store)


def test_stored_variables_restore_by_name(norm):
    store = {}
    norm.save_own_variables(store)
    other = PESNormalization()
    other.load_own_variables(dict(reversed(store.items())))
    for ours, theirs in zip(norm.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_exact_reference(dense):
    # One element: μ = ΣE / ΣN and σ² = Σ (E - Nμ)² / N / (S - 1), as fractions.
    sizes, energies = (1, 2, 3, 6, 8), (-9, -22, -30, -67, -80)
    mean = Fraction(sum(energies), sum(sizes))
    variance = sum(
        (e - n * mean) ** 2 / n for n, e in zip(sizes, energies, strict=True)
    ) / (len(sizes) - 1)
    counts = dense(*({29: n} for n in sizes))
    target = structure_target(np.array(energies, float), counts)
    layer = PESNormalization(isolated_atoms="include")
    layer.adapt([{"energy": target}])
    np.testing.assert_allclose(layer.energy_mean.numpy()[29], float(mean), rtol=1e-14)
    np.testing.assert_allclose(
        layer.energy_variance.numpy()[29], float(variance), rtol=1e-12
    )
    # Hence the standardized labels have a sum of squares of exactly S - 1.
    standardized = layer.standardize_energy(energies, counts).numpy()
    np.testing.assert_allclose(np.sum(standardized**2), 4.0, rtol=1e-12)
