"""The solver against SciPy on the same objective, written naively and densely."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize

from tfpes.statistics import FitOptions, fit_energy
from tfpes.statistics.fit import design as design_module
from tfpes.statistics.fit import likelihood
from tfpes.statistics.fit.design import Design
from tfpes.statistics.fit.laws import _COLLECTIVE_FLOOR
from tfpes.statistics.fit.likelihood import (
    Data,
    Problem,
    curvature,
    evaluate,
    gradient,
    hessian,
    information,
)
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
    floor = (_COLLECTIVE_FLOOR if collective else FLOOR) * centre
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
    design = Design(rows.composition[:, rows.elements()])
    data = Data(design, np.eye(3), rows.weight, rows.mean, 0 * rows.mean, 1, restricted)
    problem = Problem(
        data, np.eye(3), np.zeros(3), collective=collective, strength=10, centre=0.3
    )
    x = np.array([0.3, 0.5, 0.1, 0.02][: 3 + collective])
    point = evaluate(problem, x)
    slope = scipy.optimize.approx_fprime(
        x, lambda x: evaluate(problem, x).objective, 1e-8
    )
    np.testing.assert_allclose(gradient(problem, point), slope, rtol=1e-5)

    def fixed_slope(x):
        """Return the gradient with mean and leverages held."""
        variance = evaluate(problem, x).variance
        moved = dataclasses.replace(point, unknowns=x, variance=variance)
        return gradient(problem, moved)

    second = scipy.optimize.approx_fprime(x, fixed_slope, 1e-8)
    np.testing.assert_allclose(curvature(problem, point), second, rtol=1e-5)
    whole = scipy.optimize.approx_fprime(
        x, lambda x: gradient(problem, evaluate(problem, x)), 1e-8
    )
    np.testing.assert_allclose(hessian(problem, point), whole, rtol=1e-4, atol=1e-4)
    assert np.abs(whole - second).max() > 1.0  # the test can fail
    # What the law expects: residuals are then those of the freedom left.
    usual = dataclasses.replace(point, squared=point.freedom * point.variance)
    data_part = dataclasses.replace(problem, strength=0)
    np.testing.assert_allclose(
        information(data_part, point), curvature(data_part, usual), rtol=1e-12
    )


@pytest.mark.parametrize("collective", [False, True])
def test_standard_errors(fill, simulate, collective):
    """They are those of the numerical curvature of the objective, written densely."""
    composition, energies, _ = simulate(
        np.random.default_rng(8), 200, 3, kappa=0.2 * collective
    )
    law = "collective" if collective else "independent"
    fit = fit_energy(fill(composition, energies), FitOptions(size_law=law))
    found = fit.laws[law]
    centre = pooled_variance(composition, energies)
    function = restricted_objective(composition, energies, 10, centre, collective)
    unknowns = np.append(found.variance, [found.collective_variance] * collective)

    def objective(x):
        return function(np.append(np.log(x[:3]), x[3:]))

    def differences(function, x):
        steps = np.diag(1e-4 * unknowns)
        changes = [(function(x + h) - function(x - h)) / (2 * h.sum()) for h in steps]
        return np.array(changes)

    second = differences(lambda x: differences(objective, x), unknowns)
    errors = np.sqrt(np.diag(2 * np.linalg.inv(second)))
    np.testing.assert_allclose(found.variance_error, errors[:3], rtol=1e-3)
    if collective:
        assert found.collective_error == pytest.approx(errors[3], rel=1e-3)
    deviation = np.sqrt(found.variance + errors[:3]) - np.sqrt(found.variance)
    np.testing.assert_allclose(fit.deviation_error[fit.seen], deviation, rtol=1e-3)


@pytest.mark.parametrize("law", ["independent", "collective"])
def test_sums_in_blocks_agree(fill, simulate, monkeypatch, law):
    composition, energies, _ = simulate(np.random.default_rng(2), 300, 12)
    options = FitOptions(size_law=law)
    paired = fit_energy(fill(composition, energies), options)
    monkeypatch.setattr(design_module, "_MOST_PAIRS", 10)
    monkeypatch.setattr(design_module, "_BLOCK_ROWS", 50)
    blocks = fit_energy(fill(composition, energies), options)
    np.testing.assert_allclose(blocks.mean, paired.mean, 1e-8)
    np.testing.assert_allclose(blocks.variance, paired.variance, 1e-6)
    assert blocks.collective_variance == pytest.approx(paired.collective_variance)


def test_curvature_of_many_rows(fill, simulate, monkeypatch):
    """What is left out for common elements is less than is said."""
    composition, energies, _ = simulate(np.random.default_rng(7), 6000, 3)
    rows = fill(composition, energies).rows()
    design = Design(rows.composition[:, rows.elements()])
    data = Data(design, np.eye(3), rows.weight, rows.mean, 0 * rows.mean, 1, True)
    problem = Problem(data, np.eye(3), np.zeros(3), collective=True)
    point = evaluate(problem, np.array([0.3, 0.5, 0.1, 0.02]))
    assert len(rows) < likelihood._MOST_ROWS
    exact = hessian(problem, point)
    monkeypatch.setattr(likelihood, "_MOST_ROWS", 1000)
    found = hessian(problem, point)
    size = np.sqrt(np.diag(information(problem, point)))
    difference = np.abs(found - exact) / np.outer(size, size)
    assert 0 < difference.max() < 3 / 1000  # elements, rows
