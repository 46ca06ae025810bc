"""Going on from a trained potential with other data."""

import dataclasses

import keras
import numpy as np
import pytest
from ase.build import bulk

import tfpes
from tfpes.finetuning import load_trained, prepare, refit_baseline
from tfpes.inference import compositions, predict


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Predict without compiling, which each call would do anew."""
    monkeypatch.setattr("tfpes.inference.predictions.runner", lambda model: model)


@pytest.fixture
def model(trained):
    return load_trained(trained.keras_file)


def statistics(model):
    return dict(model.normalization.statistics)


def shifted(structures, shift):
    energy = structures.energy + compositions(structures) @ shift
    return dataclasses.replace(structures, energy=energy)


def least_squares(model, structures):
    """The shift by NumPy; of the smallest norm where it is not determined."""
    counts = compositions(structures)
    scale = model.normalization.energy_scale(counts).numpy()
    residual = structures.energy - predict(model, structures).energy
    return np.linalg.lstsq(counts / scale[:, None], residual / scale, rcond=None)[0]


# -- refit_baseline -----------------------------------------------------------------


def test_shift_is_the_weighted_least_squares_of_the_residuals(model, trained):
    norm = model.normalization
    norm.energy_variance.assign(norm.energy_variance * np.arange(119) / 29)
    norm.collective_variance.assign(0.01)
    structures = trained.structures
    assert len(np.unique(compositions(structures), axis=0)) > 3
    expected, before = least_squares(model, structures), statistics(model)
    shift = refit_baseline(model, structures)
    assert shift.keys() == {"Cu", "Au"}
    found = statistics(model)
    change = found.pop("energy_mean") - before.pop("energy_mean")
    np.testing.assert_allclose(change, expected, rtol=0, atol=1e-8)
    assert change[29] == pytest.approx(shift["Cu"], abs=1e-12)
    for name, value in found.items():  # nothing else changes
        np.testing.assert_array_equal(value, before[name])


def test_shifts_between_levels_of_theory_are_recovered(model, trained):
    refit_baseline(model, trained.structures)
    before = predict(model, trained.structures)
    constants = np.zeros(119)
    constants[[29, 79]] = 1234.5, -3.25
    shift = refit_baseline(model, shifted(trained.structures, constants))
    assert shift["Cu"] == pytest.approx(1234.5, abs=1e-8)
    assert shift["Au"] == pytest.approx(-3.25, abs=1e-8)
    after = predict(model, trained.structures)
    np.testing.assert_array_equal(after.forces, before.forces)
    expected = before.energy + compositions(trained.structures) @ constants
    np.testing.assert_allclose(after.energy, expected, rtol=0, atol=1e-7)


def test_a_compiled_model_sees_it(model, trained):
    model.compile(jit_compile=True)
    before = model.predict(trained.dataset, verbose=0)["energy"]
    counts = next(iter(trained.dataset))[1]["energy"].numpy()[:, 2:]
    constants = np.where(np.arange(119) == 79, 2.0, 0.0)
    refit_baseline(model, trained.structures)
    first = model.predict(trained.dataset, verbose=0)["energy"]
    refit_baseline(model, shifted(trained.structures, constants))
    second = model.predict(trained.dataset, verbose=0)["energy"]
    assert not np.allclose(before, first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(second - first, counts @ constants, atol=1e-8)


def test_what_is_not_determined_stays(model, trained):
    counts = compositions(trained.structures)
    same = np.flatnonzero((counts == counts[0]).all(axis=1))[:1]
    part = trained.structures[same]
    expected = least_squares(model, part)
    shift = refit_baseline(model, part)
    assert [shift["Cu"], shift["Au"]] == pytest.approx(expected[[29, 79]], abs=1e-8)
    # Along the composition alone.
    assert shift["Cu"] * counts[same[0], 79] == pytest.approx(
        shift["Au"] * counts[same[0], 29], abs=1e-8
    )


def test_elements_that_are_not_there_stay(model, labelled):
    before = statistics(model)["energy_mean"]
    atoms = bulk("Cu", cubic=True)
    copper = [labelled(atoms, energy=-7.0, forces=np.zeros((4, 3)))]
    shift = refit_baseline(model, tfpes.data.read(copper, 4.0, verbose=False))
    assert shift.keys() == {"Cu"}
    after = statistics(model)["energy_mean"]
    np.testing.assert_array_equal(np.delete(after, 29), np.delete(before, 29))


def test_missing_energies_are_left_out(model, trained):
    structures = trained.structures
    energy = np.where(np.arange(len(structures)) == 3, np.nan, structures.energy)
    rest = np.delete(np.arange(len(structures)), 3)
    expected = least_squares(model, structures[rest])
    shift = refit_baseline(model, dataclasses.replace(structures, energy=energy))
    assert shift["Au"] == pytest.approx(expected[79], abs=1e-8)


def test_what_refit_refuses(model, trained, labelled):
    before = statistics(model)
    atoms = bulk("Ag", cubic=True)
    silver = [labelled(atoms, energy=1.0, forces=np.zeros((4, 3)))]
    with pytest.raises(
        ValueError, match=r"trained on Cu, Au\. Received: Ag.*baseline `adapt`"
    ):
        refit_baseline(model, tfpes.data.read(silver, 4.0, verbose=False))
    wider = dataclasses.replace(trained.structures, cutoff=5.0)
    with pytest.raises(ValueError, match=r"the model, 4 Å\. Received: 5 Å"):
        refit_baseline(model, wider)
    nothing = np.full(len(trained.structures), np.nan)
    unlabelled = dataclasses.replace(trained.structures, energy=nothing)
    with pytest.raises(ValueError, match="at least one structure with an energy"):
        refit_baseline(model, unlabelled)
    fixed = tfpes.models.Potential(
        model.network, model.normalization, reference_energies={"Cu": -1.0}
    )
    with pytest.raises(ValueError, match="a model with `reference_energies`"):
        refit_baseline(fixed, trained.structures)
    for name, value in statistics(model).items():
        np.testing.assert_array_equal(value, before[name])


# -- prepare and load_trained -------------------------------------------------------


def test_what_each_baseline_changes(model, trained):
    before = statistics(model)
    prepare(model, trained.structures, "keep")
    for name, value in statistics(model).items():
        np.testing.assert_array_equal(value, before[name])
    part = trained.structures[:5]
    prepare(model, part, "adapt")
    fresh = tfpes.layers.PESNormalization()
    fresh.adapt(part.batches(64))
    for name, value in statistics(model).items():
        np.testing.assert_array_equal(value, getattr(fresh, name).numpy())
    with pytest.raises(ValueError, match="one of refit, keep, adapt"):
        prepare(model, part, "best")


def test_load_trained(trained, tmp_path):
    by_folder = load_trained(trained.keras_file.parent)
    for one, other in zip(by_folder.weights, trained.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for path in (tmp_path / "nothing.keras", tmp_path, trained.saved_model):
        with pytest.raises(FileNotFoundError, match="which is neither"):
            load_trained(path)
    (tmp_path / "bad.keras").write_bytes(trained.keras_file.read_bytes()[:999])
    with pytest.raises(ValueError, match=r"bad\.keras"):
        load_trained(tmp_path / "bad.keras")
    plain = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    plain.save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match="holds a Sequential"):
        load_trained(tmp_path / "plain.keras")
