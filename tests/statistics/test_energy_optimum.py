"""The solver against SciPy on the same objective, written naively and densely."""

import numpy as np
import pytest
import scipy.optimize

from tfpes.statistics import FitOptions, fit_energy
from tfpes.statistics.fit import design as design_module
from tfpes.statistics.fit import likelihood
from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.laws import COLLECTIVE_FLOOR
from tfpes.statistics.fit.likelihood import Problem, evaluate, gradient, hessian
from tfpes.statistics.fit.variance import FLOOR

CASES = [
    # structures, elements, kappa
    (12, 2, 0.0),
    (40, 3, 0.0),
    (40, 3, 0.3),
    (150, 5, 0.1),
    (60, 8, 0.0),
]


def restricted_objective(composition, energies, strength, centre, collective):
    """Return the objective as a function of ln v, and kappa² if collective."""
    elements = composition.any(axis=0)
    n = composition[:, elements]
    size = n.sum(axis=1)
    mean_size = size.mean()

    def objective(x):
        v = np.exp(x[: n.shape[1]])
        kappa = x[-1] if collective else 0.0
        s = n @ v + kappa * size**2
        gram = n.T @ (n / s[:, None])
        mu = np.linalg.solve(gram, n.T @ (energies / s))
        r = energies - n @ mu
        a = v + mean_size * kappa
        return (
            np.sum(np.log(s) + r**2 / s)
            + np.linalg.slogdet(gram)[1]
            + strength * np.sum(np.log(a) + centre / a)
        )

    return objective


def pooled_variance(composition, energies):
    elements = composition.any(axis=0)
    n = composition[:, elements]
    size = n.sum(axis=1)
    root = np.sqrt(size)
    mu = np.linalg.lstsq(n / root[:, None], energies / root, rcond=None)[0]
    return np.sum((energies - n @ mu) ** 2 / size) / (len(n) - n.shape[1])


@pytest.mark.slow
@pytest.mark.parametrize("law", ["independent", "collective"])
@pytest.mark.parametrize(("structures", "elements", "kappa"), CASES)
def test_scipy_finds_nothing_lower(fill, simulate, structures, elements, kappa, law):
    generator = np.random.default_rng(structures + elements)
    composition, energies, _ = simulate(generator, structures, elements, kappa=kappa)
    fit = fit_energy(fill(composition, energies), FitOptions(size_law=law))
    assert fit.rank == composition.any(axis=0).sum()
    centre = pooled_variance(composition, energies)
    collective = law == "collective"
    floor = (COLLECTIVE_FLOOR if collective else FLOOR) * centre
    function = restricted_objective(composition, energies, 10, centre, collective)
    seen = fit.seen
    ours = np.log(fit.variance[seen])
    bounds = [(np.log(floor), np.log(centre * 1e4))] * seen.sum()
    if collective:
        ours = np.append(ours, fit.collective_variance)
        bounds.append((0, centre * 1e4))
    best = function(ours)
    for _ in range(10):
        start = np.log(centre) + generator.normal(0, 1.5, seen.sum())
        if collective:
            start = np.append(start, centre * generator.uniform(0, 0.2))
        result = scipy.optimize.minimize(
            function,
            np.clip(start, *np.array(bounds, float).T),
            bounds=bounds,
            method="L-BFGS-B",
            options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
        )
        assert best <= result.fun + 1e-9 * abs(result.fun)


@pytest.mark.parametrize("collective", [False, True])
@pytest.mark.parametrize("restricted", [False, True])
def test_derivatives(fill, simulate, collective, restricted):
    composition, energies, _ = simulate(np.random.default_rng(5), 50, 3)
    rows = fill(composition, energies).rows()
    problem = Problem(
        Design(rows.matrix(rows.elements())),
        np.eye(3),
        rows.weight,
        rows.mean,
        rows.squared_deviations,
        np.eye(3),
        np.zeros(len(rows)),
        collective=collective,
        strength=10.0,
        prior=0.3,
        restricted=restricted,
    )
    x = np.array([0.3, 0.5, 0.1, 0.02][: 3 + collective])
    point = evaluate(problem, x)
    first, second = gradient(problem, point), hessian(problem, point)
    for i, unit in enumerate(np.eye(x.size)):
        h = 1e-5 * x[i] * unit
        up, down = evaluate(problem, x + h), evaluate(problem, x - h)
        slope = (up.objective - down.objective) / (2 * h[i])
        assert first[i] == pytest.approx(slope, rel=1e-6)
        difference = gradient(problem, up) - gradient(problem, down)
        np.testing.assert_allclose(second[i], difference / (2 * h[i]), rtol=1e-6)


def test_the_recipe_is_stationary_for_the_restricted_likelihood(fill, simulate):
    """d ln det(X'WX) / dv = -sum(leverage n / s): no leverages need be frozen."""
    generator = np.random.default_rng(5)
    composition, energies, _ = simulate(generator, 50, 3)
    fit = fit_energy(fill(composition, energies))
    centre = pooled_variance(composition, energies)
    function = restricted_objective(composition, energies, 10, centre, False)
    x = np.log(fit.variance[fit.seen])
    slope = scipy.optimize.approx_fprime(x, function, 1e-6)
    away = scipy.optimize.approx_fprime(x + 0.1, function, 1e-6)
    assert np.abs(slope).max() < 1e-4 * np.abs(away).max()


def test_fixed_leverages_lead_to_the_same_point(fill, simulate, monkeypatch):
    composition, energies, _ = simulate(np.random.default_rng(2), 200, 6)
    exact = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    monkeypatch.setattr(likelihood, "EXACT_ROWS", 0)
    fixed = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    np.testing.assert_allclose(fixed.variance, exact.variance, 1e-6)
    ours, theirs = fixed.laws["collective"], exact.laws["collective"]
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-13)
    assert theirs.iterations <= ours.iterations


def test_dense_and_paired_sums_agree(fill, simulate, monkeypatch):
    composition, energies, _ = simulate(np.random.default_rng(2), 300, 12)
    paired = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    monkeypatch.setattr(design_module, "DENSE_SHARE", 1000)
    dense = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    monkeypatch.setattr(design_module, "MOST_NUMBERS", 10)
    monkeypatch.setattr(design_module, "BLOCK_ROWS", 50)
    blocks = fit_energy(fill(composition, energies), FitOptions(size_law="collective"))
    for other in (paired, blocks):
        np.testing.assert_allclose(other.mean, dense.mean, 1e-9)
        np.testing.assert_allclose(other.variance, dense.variance, 1e-8)
        assert other.collective_variance == pytest.approx(dense.collective_variance)
