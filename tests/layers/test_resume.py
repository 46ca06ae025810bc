"""Statistics gathered in several sessions, by several layers, or not at all."""

import h5py
import keras
import numpy as np
import pytest

from tfpes.layers import PESNormalization

LABELS = ("energy", "forces", "virial")


def assert_close(left, right, rtol=1e-12):
    for name, value in left.statistics.items():
        expected = right.statistics[name]
        np.testing.assert_allclose(value, expected, rtol=rtol, err_msg=name)


@pytest.fixture
def batches(structures):
    return list(structures.batches(4, labels=LABELS, isolated_atoms="include"))


def gathered(batches, **options):
    layer = PESNormalization(**options)
    for batch in batches:
        layer.update_state(batch)
    return layer


def finalized(batches, **options):
    layer = gathered(batches, **options)
    layer.finalize_state()
    return layer


def as_model(layer):
    inputs = {"energy": keras.Input((121,), dtype="float64", name="energy")}
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize("options", [{}, {"robust": True}, {"size_law": "auto"}])
def test_a_model_file_goes_on(batches, tmp_path, options):
    layer = finalized(batches[:2], **options)
    as_model(layer).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    (again,) = [x for x in model.layers if isinstance(x, PESNormalization)]
    assert_close(again, layer, 0)
    for batch in batches[2:]:
        again.update_state(batch)
    assert_close(again, layer, 0)  # until it is finalized
    again.finalize_state()
    assert_close(again, finalized(batches, **options))
    assert again.report.as_dict()["structures"]["received"] == 15


def test_nothing_needs_to_be_fitted_before_saving(batches, tmp_path):
    layer = PESNormalization(energy_variance={"H": 1.0})
    layer.update_state(batches[0])
    model = as_model(layer)
    model.save_weights(tmp_path / "x.weights.h5")
    other = PESNormalization(energy_variance={"H": 1.0})
    as_model(other).load_weights(tmp_path / "x.weights.h5")
    for batch in batches[1:]:
        other.update_state(batch)
    other.finalize_state()
    assert_close(other, finalized(batches, energy_variance={"H": 1.0}))


def test_report_after_loading(batches):
    layer = finalized(batches)
    store = {}
    layer.save_own_variables(store)
    again = PESNormalization()
    again.load_own_variables(store)
    with pytest.raises(RuntimeError, match=r"or `finalize_state\(\)` if the file"):
        _ = again.report
    again.finalize_state()
    assert str(again.report) == str(layer.report)


def test_plain_numbers_only(batches, tmp_path):
    store = {}
    finalized(batches, robust=True).save_own_variables(store)
    assert "gathered_energies_bulk_mean" in store
    for value in store.values():
        assert np.asarray(value).dtype.kind in "biuf"
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, value in store.items():
            file[name] = value


def test_files_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    counts = np.zeros((2000, 119))
    counts[:, [1, 6, 7, 8]] = rng.integers(1, 20, (2000, 4))
    targets = {"energy": np.hstack([rng.normal(size=(2000, 1)), counts[:, :1], counts])}
    for options, limit in (({}, 400_000), ({"robust": True}, 800_000)):
        layer = finalized([targets], **options)
        as_model(layer).save(tmp_path / "model.keras")
        assert (tmp_path / "model.keras").stat().st_size < limit
    layer.reset_state()
    as_model(layer).save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 100_000


def test_files_without_what_was_gathered(batches):
    layer = finalized(batches)
    store = {}
    layer.save_own_variables(store)
    old = {k: v for k, v in store.items() if not k.startswith("gathered_")}
    again = PESNormalization()
    again.load_own_variables(old)
    assert_close(again, layer, 0)
    with pytest.raises(ValueError, match=r"at least one structure. Received: none"):
        again.finalize_state()


def test_file_of_another_option(batches):
    store = {}
    finalized(batches, robust=True).save_own_variables(store)
    layer = finalized(batches[:1])
    before = layer.statistics
    with pytest.raises(
        ValueError, match=r"same option `robust`. Received: a file with"
    ):
        layer.load_own_variables(store)
    for name, value in layer.statistics.items():
        np.testing.assert_array_equal(value, before[name])


def test_damaged_file(batches):
    store = {}
    finalized(batches).save_own_variables(store)
    damaged = {k: v for k, v in store.items() if k != "gathered_forces_largest"}
    with pytest.raises(ValueError, match=r"without largest. The file is damaged"):
        PESNormalization().load_own_variables(damaged)
    damaged = store | {"gathered_energies_version": np.array(9)}
    with pytest.raises(ValueError, match=r"`CompositionTable` has .* of version 9"):
        PESNormalization().load_own_variables(damaged)


# -- shards ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"robust": True}, {"size_law": "collective"}])
def test_shards_equal_everything(batches, options):
    shards = [gathered(batches[i::3], **options) for i in range(3)]
    layer = PESNormalization(**options)
    layer.merge_state(shards)
    layer.finalize_state()
    whole = PESNormalization(**options)
    whole.adapt(batches)
    assert_close(layer, whole)


def test_adapted_layers_are_merged(batches):
    shards = []
    for part in (batches[:2], batches[2:]):
        shards.append(PESNormalization())
        shards[-1].adapt(part)
    shards[0].merge_state(iter(shards[1:]))
    shards[0].finalize_state()
    assert_close(shards[0], finalized(batches))


def test_incompatible_layers(batches):
    layer = gathered(batches[:2])
    good, bad = gathered(batches[2:]), gathered(batches, robust=True)
    with pytest.raises(
        ValueError, match=r"have the same option `robust`. Received: a l"
    ):
        layer.merge_state([good, bad])
    layer.finalize_state()
    assert_close(layer, finalized(batches[:2]))
