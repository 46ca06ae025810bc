import numpy as np
import pytest

from tfpes.statistics import CompositionTable, FitOptions, fit_energy


@pytest.fixture
def data(simulate):
    return simulate(np.random.default_rng(11), 400, 4)


def known(**values):
    array = np.full(119, np.nan)
    for name, value in values.items():
        array[int(name[1:])] = value
    return array


def test_given_means_are_held(fill, data):
    composition, energies, (mean, _) = data
    fit = fit_energy(fill(composition, energies), energy_mean=known(z2=mean[2], z50=7))
    assert fit.mean[2] == mean[2]
    assert fit.mean[50] == 7
    assert fit.given_mean[[2, 50]].all()
    assert fit.rank == 3
    np.testing.assert_allclose(fit.mean[[1, 3, 4]], mean[[1, 3, 4]], atol=0.1)


def test_given_means_fix_what_is_undetermined(fill):
    table = fill([{1: 2, 8: 1}] * 4, [-14.1, -14.3, -13.9, -14.5])
    fit = fit_energy(table, energy_mean=known(z1=-3.0))
    assert fit.mean[[1, 8]] == pytest.approx([-3.0, -8.2])
    assert fit.undetermined == []
    everything = fit_energy(table, energy_mean=known(z1=-3.0, z8=-8.0))
    assert everything.rank == 0
    # Mean square deviation per atom about a known mean: no degree of freedom is lost.
    assert everything.variance[8] == pytest.approx((0.2 + 4 * 0.2**2) / 3 / 4)


def test_reference_decides_what_is_undetermined(fill):
    table = fill([{1: 2, 8: 1}] * 4, [-14.1, -14.3, -13.9, -14.5])
    fit = fit_energy(table, reference=known(z1=-3.0, z8=-8.0))
    # Closest point on the line 2 H + O = -14.2.
    assert fit.mean[[1, 8]] == pytest.approx([-3.08, -8.04], rel=1e-12)
    same = fit_energy(table)
    assert same.variance[1] == pytest.approx(fit.variance[1])


def test_given_variances_are_held(fill, data):
    composition, energies, (_, variance) = data
    table = fill(composition, energies)
    fit = fit_energy(table, energy_variance=known(z1=variance[1], z60=4.0))
    assert fit.variance[[1, 60]].tolist() == [variance[1], 4.0]
    assert fit.given_variance[[1, 60]].all()
    full = fit_energy(table)
    again = fit_energy(
        table, energy_variance=np.where(full.seen, full.variance, np.nan)
    )
    np.testing.assert_allclose(again.mean, full.mean, rtol=1e-6)
    assert again.laws["independent"].log_likelihood == pytest.approx(
        full.laws["independent"].log_likelihood, rel=1e-9
    )
    part = fit_energy(table, energy_variance=known(z1=full.variance[1]))
    np.testing.assert_allclose(part.variance[2:5], full.variance[2:5], rtol=0.2)


def test_given_variances_of_another_magnitude(fill, data):
    composition, energies, _ = data
    for value in (1e-8, 1e8):
        fit = fit_energy(fill(composition, energies), energy_variance=known(z1=value))
        assert np.isfinite(fit.variance).all()
        assert (fit.variance > 0).all()


def test_one_variance_for_all(fill, data):
    composition, energies, _ = data
    fit = fit_energy(fill(composition, energies), FitOptions(per_element=False))
    assert len(set(fit.variance)) == 1
    n = composition[:, 1:5]
    root = np.sqrt(n.sum(axis=1))
    mu, square, _, _ = np.linalg.lstsq(n / root[:, None], energies / root, rcond=None)
    assert fit.variance[1] == pytest.approx(square[0] / (400 - 4), rel=1e-10)
    np.testing.assert_allclose(fit.mean[1:5], mu, rtol=1e-10)


def test_a_strong_prior_is_one_variance(fill, data):
    composition, energies, _ = data
    table = fill(composition, energies)
    strong = fit_energy(table, FitOptions(prior_strength=1e9))
    pooled = fit_energy(table, FitOptions(per_element=False))
    np.testing.assert_allclose(strong.variance, pooled.variance, rtol=1e-5)


def test_elements_never_seen(fill, data):
    composition, energies, _ = data
    fit = fit_energy(fill(composition, energies))
    assert np.flatnonzero(fit.seen).tolist() == [1, 2, 3, 4]
    average = energies.sum() / composition.sum()
    assert fit.mean[79] == pytest.approx(average)
    assert fit.variance[79] == fit.pooled_variance
    assert fit.mean[0] == 0


def test_isolated_atoms(fill):
    composition = [{29: 1}, {29: 4}, {29: 4}, {29: 8}]
    energies = [0.1, -14.0, -14.2, -28.3]
    table = fill(composition, energies, None, [True, False, False, False])
    out = fit_energy(table)
    within = fit_energy(table, FitOptions(isolated_atoms="include"))
    assert out.mean[29] == pytest.approx(-56.5 / 16)
    assert within.variance[29] > 10 * out.variance[29]
    guessed = fit_energy(fill(composition, energies, isolated=None))
    assert guessed.mean[29] == out.mean[29]


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        (
            {"size_law": "sqrt"},
            ValueError,
            r'"independent", "collective", "auto"\. Received: \'sqrt.*The default',
        ),
        ({"size_law": "colective"}, ValueError, 'Did you mean "collective"'),
        ({"size_law": None}, ValueError, "Received: None"),
        ({"isolated_atoms": "includ"}, ValueError, '"exclude", "include".*"include"?'),
        ({"prior_strength": -1}, ValueError, "at least 0. Received: -1. The default"),
        ({"prior_strength": np.nan}, ValueError, "finite and at least 0.*nan"),
        ({"prior_strength": np.inf}, ValueError, "finite and at least 0.*inf"),
        ({"prior_strength": "10"}, TypeError, "is a number.*'10', of type str"),
        ({"prior_strength": True}, TypeError, "is a number.*True, of type bool"),
        ({"robust": "yes"}, TypeError, "must be True or False.*'yes', of type str"),
        ({"per_element": 1}, TypeError, "must be True or False.*1, of type int"),
    ],
)
def test_options_are_checked_when_they_are_made(option, error, message):
    with pytest.raises(error, match=message) as raised:
        FitOptions(**option)
    assert f"`{next(iter(option))}`" in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"energy_mean": np.zeros(3)}, r"`energy_mean` must.*shape \(119,\)"),
        ({"energy_mean": known(z3=np.inf)}, "must be finite.*atomic number 3"),
        ({"energy_variance": known(z3=0)}, "finite and positive.*0.0 for atomic num"),
        ({"collective_variance": -1.0}, "must be finite and not negative.*-1.0"),
        ({"options": FitOptions(robust=True)}, "keep_structures=True"),
    ],
)
def test_what_cannot_be_fitted(fill, given, message):
    table = fill([{1: 2}, {1: 2}, {1: 3}], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=message):
        fit_energy(table, **given)


def test_no_energies(dense):
    table = CompositionTable()
    with pytest.raises(ValueError, match=r"at least one structure.*Received: 0 struct"):
        fit_energy(table)
    table.update(dense([{1: 2}, {8: 2}]), [np.nan, np.nan])
    with pytest.raises(ValueError, match="2 structures, of which 2 without energy"):
        fit_energy(table)
    table.update(dense([{1: 1}]), [-0.5])
    with pytest.raises(ValueError, match="isolated_atoms='include'"):
        fit_energy(table)
    assert fit_energy(table, FitOptions(isolated_atoms="include")).mean[1] == -0.5
