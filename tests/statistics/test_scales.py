import numpy as np
import pytest
import scipy.optimize

from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_forces,
    fit_virial,
    virial_mean_square,
)


def force_table(numbers, forces):
    table = AtomicTable()
    table.update(numbers, forces)
    return table


def test_reference_case():
    nan = np.nan
    table = force_table([8, 1], [[1.0, 4.0, nan], [2.0, nan, 3.0]])
    fit = fit_forces(table, FitOptions(prior_strength=0))
    assert fit.scale[8] == pytest.approx(np.sqrt(17 / 2), rel=1e-10)
    assert fit.scale[1] == pytest.approx(np.sqrt(13 / 2), rel=1e-10)
    assert fit.scale[6] == pytest.approx(np.sqrt(30 / 4), rel=1e-10)
    assert np.flatnonzero(fit.seen).tolist() == [1, 8]
    np.testing.assert_array_equal(np.asarray(fit), fit.scale)


def test_shrinkage():
    generator = np.random.default_rng(0)
    numbers = np.repeat([1, 8, 6], [300, 40, 5])
    forces = (
        generator.normal(size=(345, 3)) * np.repeat([1, 3, 0], [300, 40, 5])[:, None]
    )
    fit = fit_forces(force_table(numbers, forces))
    total = np.mean(forces**2)
    for z in (1, 8, 6):
        mine = forces[numbers == z]
        expected = (np.sum(mine**2) + 30 * total) / (mine.size + 30)
        assert fit.scale[z] ** 2 == pytest.approx(expected, rel=1e-12)
    assert fit.pooled_scale**2 == pytest.approx(total)
    options = FitOptions(prior_strength=0)
    # Vanishing by symmetry is no reason to divide by nothing.
    assert fit_forces(force_table(numbers, forces), options).scale[6] > 0


@pytest.mark.parametrize("factor", [1e-3, 10.0])
def test_homogeneous(factor):
    generator = np.random.default_rng(0)
    numbers, forces = generator.integers(1, 4, 50), generator.normal(size=(50, 3))
    one = fit_forces(force_table(numbers, forces)).scale
    other = fit_forces(force_table(numbers, factor * forces)).scale
    np.testing.assert_allclose(other, factor * one, rtol=1e-12)


@pytest.mark.parametrize("forces", [np.full((2, 3), np.nan), np.zeros((2, 3))])
def test_no_forces(forces):
    fit = fit_forces(force_table([1, 8], forces))
    assert fit.degenerate
    assert (fit.scale == 1).all()


def random_virials(generator, number):
    tensor = generator.normal(size=(number, 3, 3))
    return tensor + np.swapaxes(tensor, 1, 2)


def test_mean_square_of_six_components():
    virial = random_virials(np.random.default_rng(0), 4)
    virial[2, 1, 2] = np.nan
    voigt = virial[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    expected = np.mean(voigt**2, axis=1)
    np.testing.assert_allclose(virial_mean_square(virial), expected)
    assert np.isnan(virial_mean_square(virial)[2])
    with pytest.raises(ValueError, match=r"\(structures, 3, 3\)"):
        virial_mean_square(np.zeros((2, 6)))


def test_virial_is_the_optimum(simulate):
    generator = np.random.default_rng(1)
    composition, _, (_, variance) = simulate(generator, 300, 3)
    scale = np.sqrt(composition @ variance)
    virial = random_virials(generator, 300) * scale[:, None, None]
    square = virial_mean_square(virial)
    table = CompositionTable()
    table.update(composition, square, isolated=np.zeros(300, bool))
    fit = fit_virial(table)
    n = composition[:, 1:4]
    centre = np.mean(square / n.sum(axis=1))

    def objective(x):
        s = n @ np.exp(x)
        prior = np.sum(x + centre * np.exp(-x))
        return np.sum(np.log(s) + square / s) + 10 * prior

    best = scipy.optimize.minimize(objective, np.full(3, np.log(centre)), tol=1e-12)
    ours = objective(2 * np.log(fit.scale[1:4]))
    assert ours <= best.fun + 1e-9 * abs(best.fun)
    assert fit.scale[50] == pytest.approx(np.sqrt(centre))
    standardized = virial / np.sqrt(composition @ fit.scale**2)[:, None, None]
    assert np.mean(virial_mean_square(standardized)) == pytest.approx(1, abs=0.1)


def test_no_virials():
    for values in ([], [0.0, 0.0], [np.nan, np.nan]):
        table = CompositionTable()
        composition = np.zeros((len(values), 119))
        composition[:, 29] = 4
        table.update(composition, values)
        fit = fit_virial(table)
        assert fit.degenerate
        assert (fit.scale == 1).all()


def test_isolated_virials():
    table = CompositionTable()
    composition = np.zeros((3, 119))
    composition[:, 29] = 1, 4, 4
    table.update(composition, [0.0, 4.0, 4.0])
    assert fit_virial(table).scale[29] == pytest.approx(1)


def test_bad_arguments():
    table = CompositionTable()
    composition = np.zeros((1, 119))
    composition[:, 29] = 4
    table.update(composition, [-1.0])
    with pytest.raises(ValueError, match=r"mean squares\. Received: the value -1\.0"):
        fit_virial(table)
