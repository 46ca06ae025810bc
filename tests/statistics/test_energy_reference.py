"""Cases with known answers: by hand, or from exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from tfpes.statistics import FitOptions, fit_energy

EXACT = {"rel": 1e-10}
WATER = {1: 2, 8: 1}


@pytest.mark.parametrize("strength", [0, 10, 1000])
def test_one_element(fill, maximum_likelihood, strength):
    table = fill([{29: n} for n in (1, 2, 3, 6)], [-1.1, -1.8, -3.3, -5.8])
    fit = fit_energy(table, FitOptions(prior_strength=strength))
    assert fit.mean[29] == pytest.approx(-1, **EXACT)
    assert fit.variance[29] == pytest.approx(1 / 45, **EXACT)
    assert maximum_likelihood(table).variance[29] == pytest.approx(1 / 60, **EXACT)


def test_water(fill):
    fit = fit_energy(fill([WATER] * 4, [-14.1, -14.3, -13.9, -14.5]))
    assert fit.mean[[1, 8]] == pytest.approx([-71 / 15] * 2, **EXACT)
    assert fit.variance[[1, 8]] == pytest.approx([1 / 45] * 2, **EXACT)
    assert fit.undetermined == [{8: Fraction(1), 1: Fraction(-1, 2)}]
    assert fit.rank == 1


def test_isolated_atoms_fix_what_is_undetermined(fill):
    """They lie closest, and no baseline changes; without oxygen, H alone counts."""
    waters, energies = [WATER] * 4, [-14.1, -14.3, -13.9, -14.5]
    alone = [False] * 4 + [True] * 2
    table = fill([*waters, {1: 1}, {8: 1}], [*energies, -1.0, -9.0], None, alone)
    fit = fit_energy(table)
    # μ = ref + n (E - n·ref) / n², with n = (2, 1), E = -14.2 and n·ref = -11.
    expected = [-1.0 + 2 * -3.2 / 5, -9.0 - 3.2 / 5]
    assert fit.mean[[1, 8]] == pytest.approx(expected, **EXACT)
    assert 2 * fit.mean[1] + fit.mean[8] == pytest.approx(-14.2, **EXACT)
    assert fit.variance[[1, 8]] == pytest.approx([1 / 45] * 2, **EXACT)
    given = fit_energy(fill(waters, energies), reference={"H": -1.0, "O": -9.0})
    assert given.mean[[1, 8]] == pytest.approx(expected, **EXACT)
    # Determined ones stay as they are.
    pair, energies = [{1: 2}, {1: 4}, {1: 6}], [-3.0, -6.5, -9.1]
    more = fill([*pair, {1: 1}], [*energies, 5.0], None, [False] * 3 + [True])
    plain = fit_energy(fill(pair, energies)).mean[1]
    assert fit_energy(more).mean[1] == pytest.approx(plain, **EXACT)


def test_water_clusters(fill):
    table = fill([{1: 2 * n, 8: n} for n in (1, 2, 3, 4)], [-14.1, -28.6, -42.3, -56.8])
    fit = fit_energy(table)
    assert fit.mean[[1, 8]] == pytest.approx([-4.72666666666667] * 2, **EXACT)
    assert fit.variance[[1, 8]] == pytest.approx([0.00622222222222222] * 2, **EXACT)


@pytest.mark.parametrize(
    ("composition", "energies", "elements", "mean"),
    [
        (
            [{3: 1}, {4: 1}, {3: 1, 4: 2}, {3: 3, 4: 1}],
            [-3, -5, -13, -14],
            [3, 4],
            [-3, -5],
        ),
        ([WATER], [-14.1], [1, 8], [-4.7] * 2),
    ],
    ids=["exactly linear", "one structure"],
)
def test_no_spread(fill, composition, energies, elements, mean):
    fit = fit_energy(fill(composition, energies))
    assert fit.mean[elements] == pytest.approx(mean, **EXACT)
    assert fit.variance[elements].tolist() == [1, 1]
    assert fit.degenerate


def test_molecules_are_reproduced(fill, dense):
    molecules = [WATER, {6: 1, 1: 4}, {7: 2}]
    fit = fit_energy(fill(molecules, [110, 130, 200]))
    assert dense(molecules) @ fit.mean == pytest.approx([110, 130, 200], abs=1e-9)
    assert fit.rank == 3
    assert fit.seen.sum() == 4


@pytest.mark.parametrize("batch", [7, 400])
@pytest.mark.parametrize("repeat", [1, 8])
def test_large_energies(fill, batch, repeat):
    """One pooled variance has a closed form, here in exact fractions.

    An energy of -6e6 eV is stored to 1e-9 eV, so a spread of 0.1 eV keeps 8 digits.
    """
    generator = np.random.default_rng(1)
    counts = np.repeat(generator.integers(1, 2000, (400 // repeat, 2)), repeat, axis=0)
    composition = np.zeros((400, 119))
    composition[:, [26, 79]] = counts
    size = counts.sum(axis=1)
    energies = counts @ np.array([-1500.7, -2500.3])
    energies += 0.1 * np.sqrt(size / 3000) * generator.normal(size=400)
    assert energies.min() < -6e6
    table = fill(composition[:0], energies[:0])
    for start in range(0, 400, batch):
        piece = slice(start, start + batch)
        table.merge(fill(composition[piece], energies[piece]))
    fit = fit_energy(table, FitOptions(per_element=False))

    rows = [
        (Fraction(int(a)), Fraction(int(b)), Fraction(float(e)), Fraction(1, int(n)))
        for (a, b), e, n in zip(counts, energies, size, strict=True)
    ]
    aa, ab, bb, ae, be, ee = (
        sum(w * row[i] * row[j] for *row, w in rows)
        for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))
    )
    scale = aa * bb - ab * ab
    mu = (ae * bb - be * ab) / scale, (be * aa - ae * ab) / scale
    square = ee - mu[0] * ae - mu[1] * be
    assert fit.variance[26] == pytest.approx(float(square / 398), rel=1e-7)
    assert fit.mean[[26, 79]] == pytest.approx([float(x) for x in mu], rel=1e-12)
    assert not fit.degenerate
