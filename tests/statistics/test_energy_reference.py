"""Cases with known answers: by hand, or from exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from tfpes.statistics import FitOptions, fit_energy

EXACT = {"rel": 1e-10}


@pytest.mark.parametrize("strength", [0, 10, 1000])
def test_one_element(fill, maximum_likelihood, strength):
    table = fill([{29: n} for n in (1, 2, 3, 6)], [-1.1, -1.8, -3.3, -5.8])
    fit = fit_energy(table, FitOptions(prior_strength=strength))
    assert fit.mean[29] == pytest.approx(-1, **EXACT)
    assert fit.variance[29] == pytest.approx(1 / 45, **EXACT)
    likely = maximum_likelihood(table)
    assert likely.variance[29] == pytest.approx(1 / 60, **EXACT)


def test_water(fill):
    fit = fit_energy(fill([{1: 2, 8: 1}] * 4, [-14.1, -14.3, -13.9, -14.5]))
    assert fit.mean[[1, 8]] == pytest.approx([-71 / 15] * 2, **EXACT)
    assert fit.variance[[1, 8]] == pytest.approx([1 / 45] * 2, **EXACT)
    assert fit.undetermined == [{8: Fraction(1), 1: Fraction(-1, 2)}]
    assert fit.rank == 1


def test_water_clusters(fill):
    table = fill([{1: 2 * n, 8: n} for n in (1, 2, 3, 4)], [-14.1, -28.6, -42.3, -56.8])
    fit = fit_energy(table)
    assert fit.mean[[1, 8]] == pytest.approx([-4.72666666666667] * 2, **EXACT)
    assert fit.variance[[1, 8]] == pytest.approx([0.00622222222222222] * 2, **EXACT)


def test_exactly_linear(fill):
    table = fill([{3: 1}, {4: 1}, {3: 1, 4: 2}, {3: 3, 4: 1}], [-3, -5, -13, -14])
    fit = fit_energy(table)
    assert fit.mean[[3, 4]] == pytest.approx([-3, -5], **EXACT)
    assert fit.variance[[3, 4]].tolist() == [1, 1]
    assert fit.degenerate


def test_one_structure(fill):
    fit = fit_energy(fill([{1: 2, 8: 1}], [-14.1]))
    assert fit.mean[[1, 8]] == pytest.approx([-4.7] * 2, **EXACT)
    assert fit.variance[[1, 8]].tolist() == [1, 1]
    assert fit.degenerate


def test_molecules_are_reproduced(fill, dense):
    molecules = [{1: 2, 8: 1}, {6: 1, 1: 4}, {7: 2}]
    fit = fit_energy(fill(molecules, [110, 130, 200]))
    assert dense(molecules) @ fit.mean == pytest.approx([110, 130, 200], abs=1e-9)
    assert fit.rank == 3
    assert fit.seen.sum() == 4


def _solve(matrix, right):
    """Gauss elimination in exact fractions."""
    size = len(matrix)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(size):
        pivot = next(j for j in range(i, size) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(size):
            if j != i:
                factor = rows[j][i]
                pairs = zip(rows[j], rows[i], strict=True)
                rows[j] = [a - factor * b for a, b in pairs]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("batch", [7, 400])
@pytest.mark.parametrize("repeat", [1, 8])
def test_large_energies_lose_nothing(fill, dense, batch, repeat):
    """One pooled variance has a closed form, here in exact fractions."""
    generator = np.random.default_rng(1)
    kinds = generator.integers(1, 2000, (400 // repeat, 3))
    counts = np.repeat(kinds, repeat, axis=0)
    composition = np.zeros((400, 119))
    composition[:, [1, 26, 79]] = counts
    size = counts.sum(axis=1)
    mean = np.array([-13.6, -1500.7, -2500.3])
    energies = counts @ mean + 0.1 * np.sqrt(size / 3000) * generator.normal(size=400)
    assert energies.min() < -6e6
    table = fill(composition[:batch], energies[:batch])
    for start in range(batch, 400, batch):
        piece = slice(start, start + batch)
        table.merge(fill(composition[piece], energies[piece]))
    fit = fit_energy(table, FitOptions(per_element=False))

    n = [[Fraction(int(x)) for x in row] for row in counts]
    e = [Fraction(float(x)) for x in energies]
    weight = [1 / sum(row) for row in n]
    gram = [
        [sum(w * r[i] * r[j] for w, r in zip(weight, n, strict=True)) for j in range(3)]
        for i in range(3)
    ]
    right = [
        sum(w * r[i] * x for w, r, x in zip(weight, n, e, strict=True))
        for i in range(3)
    ]
    mu = _solve(gram, right)
    square = sum(
        w * (x - sum(a * b for a, b in zip(r, mu, strict=True))) ** 2
        for w, r, x in zip(weight, n, e, strict=True)
    )
    assert fit.variance[26] == pytest.approx(float(square / 397), rel=1e-8)
    assert fit.mean[[1, 26, 79]] == pytest.approx([float(x) for x in mu], rel=1e-13)
    assert not fit.degenerate
