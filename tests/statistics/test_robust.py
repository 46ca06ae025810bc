import numpy as np
import pytest
from scipy import integrate, stats

from tfpes.statistics import FitOptions, fit_energy
from tfpes.statistics.fit.robust import _CONSISTENCY, _CUT


def test_consistency():
    clipped = integrate.quad(
        lambda x: np.clip(x, -_CUT, _CUT) ** 2 * stats.norm.pdf(x), -12, 12, limit=200
    )[0]
    assert pytest.approx(clipped, rel=1e-8) == _CONSISTENCY


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
    robust = fit_energy(table, FitOptions(robust=True))
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
    plain, robust = fit_energy(table), fit_energy(table, FitOptions(robust=True))
    np.testing.assert_allclose(robust.variance[1:4], plain.variance[1:4], rtol=0.06)


def test_single_structures_need_not_be_kept(fill):
    generator = np.random.default_rng(0)
    composition = [{1: int(n), 8: int(m)} for n in range(1, 9) for m in range(1, 9)]
    energies = generator.normal(size=64)
    kept = fit_energy(
        fill(composition, energies, keep_structures=True), FitOptions(robust=True)
    )
    moments = fit_energy(fill(composition, energies), FitOptions(robust=True))
    np.testing.assert_allclose(moments.variance, kept.variance, rtol=1e-12)
