import numpy as np
import pytest
from scipy import integrate, stats

from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_energy,
    fit_forces,
    fit_virial,
    split_virial,
)
from tfpes.statistics.fit.robust import CUT, consistency, median

ROBUST = FitOptions(robust=True)


@pytest.mark.parametrize("components", [1, 3, 5])
def test_moments_of_normal_variables(components):
    # Root mean square r: c r² is χ² with c degrees of freedom.
    density = stats.chi2(components).pdf
    clipped = integrate.quad(
        lambda x: min(x / components, CUT**2) * density(x), 0, 200, limit=200
    )[0]
    assert consistency(components) == pytest.approx(clipped, rel=1e-6)
    half = integrate.quad(density, 0, components * median(components) ** 2)[0]
    assert half == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("repeat", [1, 4])
def test_outliers_do_not_inflate(fill, simulate, repeat):
    generator = np.random.default_rng(4)
    composition, energies, (mean, variance) = simulate(generator, 500, 3)
    composition = np.repeat(composition, repeat, axis=0)
    scale = np.sqrt(composition @ variance)
    energies = composition @ mean + scale * generator.normal(size=len(scale))
    spoilt = energies.copy()
    bad = generator.choice(len(scale), len(scale) // 100, replace=False)
    spoilt[bad] += 100 * scale[bad] * generator.choice([-1, 1], len(bad))
    clean = fit_energy(fill(composition, energies))
    plain = fit_energy(fill(composition, spoilt))
    table = fill(composition, spoilt, keep_structures=True)
    robust = fit_energy(table, ROBUST)
    inflation = np.sqrt(plain.variance[1:4] / clean.variance[1:4])
    assert inflation.max() > 4
    np.testing.assert_allclose(
        np.sqrt(robust.variance[1:4] / clean.variance[1:4]), 1, atol=0.15
    )
    np.testing.assert_allclose(robust.mean[1:4], mean[1:4], atol=0.1)
    assert len(bad) <= robust.clipped < len(scale) // 15
    assert robust.compositions == len(table)


def test_clean_data_are_left_alone(fill, simulate):
    composition, energies, _ = simulate(np.random.default_rng(0), 2000, 3)
    table = fill(composition, energies, keep_structures=True)
    plain, robust = fit_energy(table), fit_energy(table, ROBUST)
    np.testing.assert_allclose(robust.variance[1:4], plain.variance[1:4], rtol=0.06)


def test_single_structures_need_not_be_kept(fill):
    generator = np.random.default_rng(0)
    composition = [{1: int(n), 8: int(m)} for n in range(1, 9) for m in range(1, 9)]
    energies = generator.normal(size=64)
    kept = fit_energy(fill(composition, energies, keep_structures=True), ROBUST)
    moments = fit_energy(fill(composition, energies), ROBUST)
    np.testing.assert_allclose(moments.variance, kept.variance, rtol=1e-12)


def draw_forces(generator, atoms=6000):
    """Return elements, forces with tails, and structures of 20 atoms."""
    number = generator.choice([1, 8, 26], atoms, p=[0.6, 0.3, 0.1])
    scale = np.choose(np.searchsorted([1, 8, 26], number), [0.5, 1.0, 3.0])
    forces = scale[:, None] * generator.standard_t(6, (atoms, 3))
    return number, forces, np.arange(atoms) // 20


def table_of(number, forces, index, weights=None):
    table = AtomicTable()
    table.update(number, forces, weights, index)
    return table


@pytest.mark.parametrize("absurd", [300.0, 1e12])
def test_absurd_forces(absurd):
    generator = np.random.default_rng(0)
    number, forces, index = draw_forces(generator)
    clean = fit_forces(table_of(number, forces, index))
    bulk = fit_forces(table_of(number, forces, index), ROBUST)
    bad = generator.choice(len(number), len(number) // 100, replace=False)
    forces[bad] *= absurd / np.linalg.norm(forces[bad], axis=1)[:, None]
    table = table_of(number, forces, index)
    seen = [1, 8, 26]
    plain, robust = fit_forces(table), fit_forces(table, ROBUST)
    assert (plain.scale[seen] / clean.scale[seen]).min() > 4
    # Tails of the clean forces are pulled in as well.
    np.testing.assert_allclose(bulk.scale[seen], clean.scale[seen], rtol=0.08)
    np.testing.assert_allclose(robust.scale[seen], bulk.scale[seen], rtol=0.05)
    assert clean.largest_share < 0.3
    for fit in (plain, robust):
        assert fit.largest_share > 0.99


@pytest.mark.parametrize("strength", [0.0, 10.0])
def test_robust_scales_are_those_of_the_forces(strength):
    generator = np.random.default_rng(1)
    number, forces, index = draw_forces(generator)
    bad = generator.choice(np.flatnonzero(number == 8), 60, replace=False)
    forces[bad] *= 100
    size = np.sqrt(np.mean(forces**2, axis=1))
    masks = [number == z for z in (1, 8, 26)]
    half = np.sqrt(stats.chi2.ppf(0.5, 3) / 3)
    limits = [2.5 * np.median(size[mask]) / half for mask in masks]
    inside = stats.chi2.cdf(18.75, 5) + 6.25 * stats.chi2.sf(18.75, 3)
    pulled = np.minimum(size, np.choose(np.argmax(masks, axis=0), limits)) ** 2 / inside
    mean = np.array([pulled[mask].mean() for mask in masks])
    held = np.array([len(np.unique(index[mask])) for mask in masks])
    expected = (held * mean + strength * pulled.mean()) / (held + strength)
    options = FitOptions(robust=True, prior_strength=strength)
    fit = fit_forces(table_of(number, forces, index), options)
    # The table knows forces by bins.
    np.testing.assert_allclose(fit.scale[[1, 8, 26]], np.sqrt(expected), rtol=5e-3)


def test_largest_share_of_forces():
    generator = np.random.default_rng(2)
    number, forces, index = draw_forces(generator, 20_000)
    weights = generator.choice([0.0, 1.0, 2.0], len(number))
    forces[:5] = np.nan
    forces[5:15, 1] = np.nan
    zeros = np.zeros((30_000, 3))  # by symmetry: no atoms to count
    table = table_of(number, forces, index, weights)
    table.update(np.full(30_000, 8), zeros)
    square = np.repeat(np.nansum(forces[15:] ** 2, axis=1), weights[15:].astype(int))
    largest = np.sort(square)[::-1]
    expected = largest[: len(largest) // 100].sum() / largest.sum()
    share = fit_forces(table).largest_share
    assert share == pytest.approx(expected, rel=0.02)


def test_wrong_virials_do_not_inflate(simulate):
    generator = np.random.default_rng(3)
    composition, _, (_, variance) = simulate(generator, 1000, 3)
    scale = np.sqrt(composition @ variance)[:, None, None]
    virial = scale * generator.normal(size=(1000, 3, 3))
    virial = virial + np.swapaxes(virial, 1, 2)
    spoilt = virial.copy()
    spoilt[generator.choice(1000, 10, replace=False)] *= 100

    def weights(values, options):
        tables = [CompositionTable(keep_structures=True) for _ in range(2)]
        for table, part in zip(tables, split_virial(values), strict=True):
            table.update(composition, part, isolated=np.zeros(1000, bool))
        return fit_virial(*tables, options).weights()

    clean, plain = weights(virial, FitOptions()), weights(spoilt, FitOptions())
    robust = weights(spoilt, ROBUST)
    for name in ("pressure_scale", "virial_scale"):
        assert (plain[name] / clean[name])[1:4].max() > 4
        np.testing.assert_allclose(robust[name][1:4], clean[name][1:4], rtol=0.15)
