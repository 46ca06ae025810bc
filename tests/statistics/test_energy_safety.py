"""No variance at 0 and nothing non-finite, whatever the data."""

import numpy as np
import pytest

from tfpes.statistics import FitOptions, fit_energy

SETS = ("acac_botnet", "mlearn6", "mptrj_random_1k", "nbmotaw_mvl")
LAWS = ("independent", "collective", "auto")


def assert_safe(fit):
    assert np.isfinite(fit.mean).all()
    assert np.isfinite(fit.variance).all()
    assert np.isfinite(fit.collective_variance)
    assert fit.collective_variance >= 0
    assert (fit.variance[1:] > 1e-7 * fit.pooled_variance).all()
    assert fit.converged


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("law", LAWS)
def test_whole_sets(fill, read_shared, name, law):
    composition, energies, isolated = read_shared(name)
    table = fill(composition, energies, None, isolated)
    assert_safe(fit_energy(table, FitOptions(size_law=law)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_parts_of_sets(fill, read_shared, name):
    """Each element alone, as if it were all there is, and random structures."""
    composition, energies, isolated = read_shared(name)
    kinds = np.count_nonzero(composition, axis=1)
    tables = []
    for z in np.flatnonzero(composition.any(axis=0)):
        holds = composition[:, z] > 0
        tables.append(fill(composition[holds] * (np.arange(119) == z), energies[holds]))
        pure = holds & (kinds == 1)
        if pure.any():
            tables.append(fill(composition[pure], energies[pure]))
    generator = np.random.default_rng(0)
    for number in np.repeat([5, 20, 60], 5):
        chosen = generator.choice(len(energies), number, replace=False)
        tables.append(
            fill(composition[chosen], energies[chosen], None, isolated[chosen])
        )
    for table in tables:
        for law in LAWS[:2]:
            assert_safe(fit_energy(table, FitOptions(size_law=law)))


@pytest.mark.slow
def test_simulated_problems(fill, simulate):
    generator = np.random.default_rng(0)
    for _ in range(80):
        structures = int(generator.integers(2, 200))
        elements = int(generator.integers(1, 12))
        kappa = generator.choice([0.0, 0.05, 0.5])
        composition, energies, _ = simulate(
            generator, structures, elements, kappa=kappa
        )
        for law in LAWS[:2]:
            assert_safe(
                fit_energy(fill(composition, energies), FitOptions(size_law=law))
            )


@pytest.mark.parametrize("law", [*LAWS, "maximum likelihood"])
def test_without_a_prior(fill, simulate, maximum_likelihood, law):
    generator = np.random.default_rng(1)
    for _ in range(10):
        composition, energies, _ = simulate(generator, 30, 6)
        table = fill(composition, energies)
        if law in LAWS:
            fit = fit_energy(table, FitOptions(prior_strength=0, size_law=law))
        else:
            fit = maximum_likelihood(table)
        assert_safe(fit)
        assert (fit.variance[fit.seen] > 0).all()


def test_huge_structures(fill):
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 100_000, (50, 2))
    composition = np.zeros((50, 119))
    composition[:, [13, 28]] = counts
    spread = np.sqrt(counts @ [0.01, 0.04])
    energies = counts @ [-3.7, -5.6] + spread * generator.normal(size=50)
    fit = fit_energy(fill(composition, energies))
    assert_safe(fit)
    assert fit.mean[[13, 28]] == pytest.approx([-3.7, -5.6], abs=1e-2)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_unit(fill, simulate, scale):
    composition, energies, _ = simulate(np.random.default_rng(0), 40, 3)
    one = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    other = fit_energy(
        fill(composition, energies * scale), FitOptions(size_law="collective")
    )
    np.testing.assert_allclose(other.variance, one.variance * scale**2, 1e-6)
