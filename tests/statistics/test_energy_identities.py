"""What must hold for any data.

The search stops at 1e-8 of a variance, whose standard error is 1e-2 or more; what
follows from it is good to 1e-6.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfpes.statistics import FitOptions, fit_energy
from tfpes.statistics.report.goodness import _residuals, standardized


def problem(simulate, seed, structures=120, elements=4, **options):
    generator = np.random.default_rng(seed)
    return simulate(generator, structures, elements, **options)[:2]


@pytest.mark.parametrize("seed", range(4))
def test_maximum_likelihood(fill, simulate, maximum_likelihood, seed):
    composition, energies = problem(simulate, seed)
    table = fill(composition, energies)
    fit = maximum_likelihood(table)
    assert standardized(table.rows(), fit).mean_square == pytest.approx(1, rel=1e-6)
    deviation = table.rows().weight * _residuals(table.rows(), fit)[0]
    assert abs(deviation.sum()) < 1e-9 * np.abs(deviation).sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("law", ["independent", "collective"])
def test_restricted_likelihood(fill, simulate, seed, law):
    composition, energies = problem(simulate, seed)
    table = fill(composition, energies)
    fit = fit_energy(table, FitOptions(prior_strength=0, size_law=law))
    total = standardized(table.rows(), fit).mean_square * fit.structures
    assert total == pytest.approx(fit.structures - fit.rank, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["independent", "collective"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-6, 1e6))
def test_scaling_the_energies(fill, simulate, law, seed, factor):
    composition, energies = problem(simulate, seed, 40, 3)
    one = fit_energy(fill(composition, energies), FitOptions(size_law=law))
    other = fit_energy(fill(composition, energies * factor), FitOptions(size_law=law))
    np.testing.assert_allclose(other.mean, one.mean * factor, 1e-10)
    np.testing.assert_allclose(other.variance, one.variance * factor**2, 1e-6)
    scaled = other.collective_variance / factor**2
    assert scaled == pytest.approx(one.collective_variance, rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_shifting_the_energies_of_elements(fill, simulate, seed):
    composition, energies = problem(simulate, seed, 60, 3)
    shift = np.random.default_rng(seed).normal(0, 100, 119)
    one = fit_energy(fill(composition, energies))
    other = fit_energy(fill(composition, energies + composition @ shift))
    seen = one.seen
    np.testing.assert_allclose(other.mean[seen], (one.mean + shift)[seen], 1e-9, 1e-7)
    np.testing.assert_allclose(other.variance, one.variance, 1e-6)


def test_shifting_where_means_are_undetermined(fill):
    composition = [{1: 2 * n, 8: n, 6: m} for n in (1, 2, 3) for m in (1, 2, 4)]
    generator = np.random.default_rng(0)
    table = fill(composition, energies := generator.normal(size=9))
    dense = table.rows().composition.toarray()
    one = fit_energy(table)
    shift = generator.normal(size=119)
    rows = [sum(shift[z] * n for z, n in c.items()) for c in composition]
    other = fit_energy(fill(composition, energies + rows))
    np.testing.assert_allclose(
        dense @ other.mean, dense @ (one.mean + shift), rtol=1e-10
    )
    np.testing.assert_allclose(other.variance, one.variance, 1e-6)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 50))
def test_permutation_batches_and_duplicates(fill, simulate, seed, batch):
    composition, energies = problem(simulate, seed, 50, 3)
    weights = np.random.default_rng(seed).choice([1.0, 2.0], 50)
    one = fit_energy(fill(composition, energies, weights))
    order = np.random.default_rng(seed).permutation(50)
    repeated = np.repeat(order, weights[order].astype(int))
    table = fill(composition[:0], energies[:0])
    for start in range(0, len(repeated), batch):
        piece = repeated[start : start + batch]
        table.merge(fill(composition[piece], energies[piece]))
    other = fit_energy(table)
    np.testing.assert_allclose(other.mean, one.mean, 1e-10)
    np.testing.assert_allclose(other.variance, one.variance, 1e-6)


def test_the_order_of_structures_leaves_no_trace(fill, simulate):
    composition, energies = problem(simulate, 3)
    order = np.random.default_rng(3).permutation(len(energies))
    one = fit_energy(fill(composition, energies))
    other = fit_energy(fill(composition[order], energies[order]))
    np.testing.assert_allclose(other.mean, one.mean, 1e-12)
    np.testing.assert_allclose(other.variance, one.variance, 1e-12)
