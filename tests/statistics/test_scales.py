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


def force_table(numbers, forces, index=None):
    table = AtomicTable()
    table.update(numbers, forces, structure_index=index)
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


def test_prior_counts_structures():
    # 30 structures of 10 H and, some of them, 2 O; 1 C each in two.
    generator = np.random.default_rng(0)
    numbers = np.repeat([1, 8, 6], [300, 40, 2])
    index = np.concatenate([np.arange(300) // 10, np.arange(40) // 2, [3, 7]])
    forces = generator.normal(size=(342, 3))
    forces *= np.repeat([1, 3, 0.2], [300, 40, 2])[:, None]
    fit = fit_forces(force_table(numbers, forces, index))
    total = np.mean(forces**2)
    assert fit.pooled_scale**2 == pytest.approx(total)
    for z, structures in ((1, 30), (8, 20), (6, 2)):
        mean = np.mean(forces[numbers == z] ** 2)
        expected = (structures * mean + 10 * total) / (structures + 10)
        assert fit.scale[z] ** 2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 50.0])
def test_components_that_vanish_by_symmetry_are_left_out(unit):
    generator = np.random.default_rng(0)
    numbers, index = generator.integers(1, 4, 200), np.arange(200) // 4
    forces = unit * generator.normal(size=(200, 3))
    noise = unit * generator.uniform(-1e-7, 1e-7, (100, 3))
    with_zeros = np.concatenate([forces, noise, np.zeros((50, 3))])
    # Whole structures of noise, one more element of which nothing else is known.
    more = np.append(generator.integers(1, 5, 149), 4)
    table = force_table(
        np.append(numbers, more), with_zeros, np.append(index, 50 + np.arange(150) // 4)
    )
    expected = fit_forces(force_table(numbers, forces, index))
    fit = fit_forces(table)
    np.testing.assert_allclose(fit.scale, expected.scale, rtol=1e-9)
    assert fit.seen[4]
    assert fit.scale[4] == fit.pooled_scale
    options = FitOptions(prior_strength=0)
    assert (fit_forces(table, options).scale > 0).all()


def test_one_frame_does_not_make_a_scale():
    # 99 structures of forces 0.1 eV/Å; the 100th holds nearly all of the squares.
    generator = np.random.default_rng(0)
    forces = 0.1 * generator.normal(size=(1000, 3))
    forces[990:] = 100 * generator.normal(size=(10, 3))
    numbers = np.where(np.arange(1000) < 990, 26, 67)
    fit = fit_forces(force_table(numbers, forces, np.arange(1000) // 10))
    own = np.sqrt(np.mean(forces[990:] ** 2))
    assert fit.scale[67] < 0.35 * own
    alone = fit_forces(force_table(numbers, forces, np.arange(1000)))
    assert alone.scale[67] > 0.7 * own


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
