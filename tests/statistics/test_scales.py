import numpy as np
import pytest
import scipy.optimize
from scipy.spatial.transform import Rotation

from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_forces,
    fit_virial,
    split_virial,
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
    """Return virials whose pressure and five components have variance 1."""
    pressure, tensor = (
        generator.normal(size=number),
        generator.normal(size=(number, 3, 3)),
    )
    tensor = (tensor + np.swapaxes(tensor, 1, 2)) / 2
    tensor[:, range(3), range(3)] = generator.normal(size=(number, 3))
    tensor[:, range(3), range(3)] -= np.trace(tensor, axis1=1, axis2=2)[:, None] / 3
    return pressure, tensor


def virial_tables(composition, virial):
    tables = CompositionTable(), CompositionTable()
    for table, values in zip(tables, split_virial(virial), strict=True):
        table.update(composition, values, isolated=np.zeros(len(values), bool))
    return tables


def test_pressure_and_deviator():
    generator = np.random.default_rng(0)
    pressure, deviator = random_virials(generator, 4)
    virial = deviator + pressure[:, None, None] * np.eye(3)
    virial[2, 1, 2] = np.nan
    found, square = split_virial(virial)
    kept = [0, 1, 3]
    np.testing.assert_allclose(found[kept], pressure[kept])
    xx, yy, zz, yz, xz, xy = virial[kept][:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].T
    differences = ((xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2) / 3
    expected = (differences + 2 * (yz**2 + xz**2 + xy**2)) / 5
    np.testing.assert_allclose(square[kept], expected)
    assert np.isnan([found[2], square[2]]).all()
    turn = Rotation.random(4, rng=generator).as_matrix()
    turned = turn @ virial @ np.swapaxes(turn, 1, 2)
    np.testing.assert_allclose(split_virial(turned)[1][kept], square[kept])
    with pytest.raises(ValueError, match=r"\(structures, 3, 3\)"):
        split_virial(np.zeros((2, 6)))


def test_both_scales_of_virials_are_recovered(simulate):
    generator = np.random.default_rng(2)
    composition, _, (mean, variance) = simulate(generator, 4000, 3)
    size = composition.sum(axis=1)
    pressure, deviator = random_virials(generator, 4000)
    pressure *= np.sqrt(composition @ (20 * variance) + (size * 0.3) ** 2)
    pressure += composition @ mean
    deviator *= np.sqrt(composition @ variance)[:, None, None]
    virial = deviator + pressure[:, None, None] * np.eye(3)
    fit = fit_virial(*virial_tables(composition, virial), FitOptions(size_law="auto"))
    weights = fit.weights()
    seen = slice(1, 4)
    np.testing.assert_allclose(weights["pressure_mean"][seen], mean[seen], atol=0.5)
    np.testing.assert_allclose(
        weights["pressure_scale"][seen], np.sqrt(20 * variance[seen]), rtol=0.2
    )
    assert weights["collective_pressure_variance"] == pytest.approx(0.09, rel=0.3)
    np.testing.assert_allclose(
        weights["virial_scale"][seen], np.sqrt(variance[seen]), rtol=0.4
    )
    assert weights["collective_virial_variance"] == 0


def test_deviator_is_the_optimum(simulate):
    generator = np.random.default_rng(1)
    composition, _, (_, variance) = simulate(generator, 300, 3)
    _, deviator = random_virials(generator, 300)
    deviator *= np.sqrt(composition @ variance)[:, None, None]
    square = split_virial(deviator)[1]
    fit = fit_virial(*virial_tables(composition, deviator)).deviator
    n = composition[:, 1:4]
    centre = np.mean(square / n.sum(axis=1))

    def objective(x):
        s = n @ np.exp(x)
        prior = np.sum(x + centre * np.exp(-x))
        return np.sum(np.log(s) + square / s) + 10 * prior

    best = scipy.optimize.minimize(objective, np.full(3, np.log(centre)), tol=1e-12)
    ours = objective(np.log(fit.variance[1:4]))
    assert ours <= best.fun + 1e-9 * abs(best.fun)
    assert fit.variance[50] == pytest.approx(centre)
    assert not fit.mean.any()


def test_virials_of_zero():
    composition = np.zeros((3, 119))
    composition[:, 29] = 2, 4, 4
    fit = fit_virial(*virial_tables(composition, np.zeros((3, 3, 3))))
    assert fit.pressure.degenerate
    assert fit.deviator.degenerate
    assert (fit.weights()["virial_scale"][1:] == 1).all()


def test_isolated_virials():
    pressures, deviators = CompositionTable(), CompositionTable()
    composition = np.zeros((3, 119))
    composition[:, 29] = 1, 4, 4
    for table in (pressures, deviators):
        table.update(composition, [0.0, 4.0, 4.0])
    options = FitOptions(isolated_atoms="include")
    fit = fit_virial(pressures, deviators, options)
    assert fit.deviator.variance[29] == pytest.approx(1)


def test_bad_squares():
    table = CompositionTable()
    composition = np.zeros((1, 119))
    composition[:, 29] = 4
    table.update(composition, [-1.0])
    with pytest.raises(ValueError, match=r"mean squares\. Received: the value -1\.0"):
        fit_virial(table, table)
