import json

import numpy as np
import pytest

from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_energy,
    fit_forces,
    fit_virial,
    make_report,
)
from tfpes.statistics.report.goodness import _residuals, size_exponent, standardized


@pytest.fixture
def table(fill, simulate):
    composition, energies, _ = simulate(np.random.default_rng(0), 300, 3)
    composition = np.concatenate([composition, composition[:100]])
    energies = np.concatenate([energies, energies[:100] + 0.3])
    energies[5] = np.nan
    return fill(composition, energies, keep_structures=True)


def test_moments_from_merged_rows_are_those_of_the_structures(table):
    fit = fit_energy(table)
    singles = table.structure_rows()
    assert len(singles) > len(table.rows())
    merged = standardized(table.rows(), fit)
    deviation, variance = _residuals(singles, fit)
    z = deviation / np.sqrt(variance)
    assert merged.mean_square == pytest.approx(np.mean(z**2), rel=1e-10)
    kurtosis = np.mean(z**4) / np.mean(z**2) ** 2
    assert merged.kurtosis == pytest.approx(kurtosis, rel=1e-9)
    assert merged.largest == pytest.approx(np.abs(z).max(), rel=1e-10)
    worst = singles.composition_of(int(np.argmax(np.abs(z))))
    assert merged.largest_composition == worst
    size = singles.size
    assert sum(b.structures for b in merged.bins) == len(singles)
    for b in merged.bins:
        inside = (size >= b.smallest) & (size <= b.largest)
        assert b.structures == inside.sum()
        assert b.mean_square == pytest.approx(np.mean(z[inside] ** 2), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_size_exponent(fill, exponent):
    generator = np.random.default_rng(int(exponent))
    inside, found = 0, []
    for _ in range(40):
        counts = np.round(np.exp(generator.uniform(0, 5, (300, 2)))).astype(int)
        composition = np.zeros((300, 119))
        composition[:, [1, 8]] = counts
        scale = counts.sum(axis=1) ** (exponent / 2)
        energies = counts @ [-1.0, -5.0] + scale * generator.normal(size=300)
        table = fill(composition, energies)
        result = size_exponent(table.rows(), fit_energy(table))
        found.append(result.exponent)
        inside += result.low < exponent < result.high
    assert np.mean(found) == pytest.approx(exponent, abs=0.12)
    assert inside >= 32


def test_size_exponent_needs_sizes(fill):
    for data in ([{1: 3}] * 4, [{1: 2, 8: 1}, {1: 1, 8: 2}, {1: 3}, {8: 3}]):
        table = fill(data, [0.1, -0.2, 0.5, 0.0])
        assert size_exponent(table.rows(), fit_energy(table)) is None


def whole_report(table):
    forces, virial, squares = AtomicTable(), CompositionTable(), CompositionTable()
    generator = np.random.default_rng(0)
    forces.update(np.array([1, 2, 3, 0]), generator.normal(size=(4, 3)))
    composition = table.rows().composition.toarray()
    virial.update(composition, generator.normal(size=len(table)))
    squares.update(composition, generator.random(len(table)))
    return make_report(
        table,
        fit_energy(table, FitOptions(size_law="auto")),
        forces=forces,
        force_fit=fit_forces(forces),
        virial=virial,
        virial_fit=fit_virial(virial, squares),
    )


def test_dict_is_json_and_apart(table):
    report = whole_report(table)
    content = report.as_dict()
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert content["structures"]["used"] == 399
    assert content["structures"]["missing"] == 1
    assert content["structures"]["compositions"] == len(table)
    assert content["fit"]["rank"] == 3
    assert set(content["fit"]["laws"]) == {"independent", "collective"}
    assert set(content["elements"]) == {"H", "He", "Li"}
    assert content["forces"]["atoms"] == 3
    content["elements"].clear()
    assert report.as_dict()["elements"]


def test_text(table):
    text = str(whole_report(table))
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "399 used of 400 (1 without energy",
        "rank                        3 of 3 elements",
        "log-likelihood independent",
        "log-likelihood collective",
        "size exponent p",
        "kurtosis",
        "Structures of all sizes count about alike",
        "sigma      ±    eta  tau_p    tau",
    ):
        assert part in " ".join(text.split("\n")) or part in text


def warnings_of(table, **options):
    fit = fit_energy(table, FitOptions(**options))
    return " ".join(make_report(table, fit).warnings)


def test_warnings_teach(fill):
    water = fill([{1: 2, 8: 1}] * 4, [-14.1, -14.3, -13.9, -14.5])
    text = warnings_of(water)
    assert "Undetermined combinations: (H : -1/2, O : +1)" in text
    assert "losses and baselines are exact" in text
    assert "pass `energy_mean`" in text
    assert "distinct compositions for" not in text  # they differ in size alone

    one = fill([{1: 2, 8: 1}], [-14.1])
    text = warnings_of(one)
    assert "exactly linear" in text
    assert "fewer than 3 structures: H, O" in text

    isolated = fill(
        [{29: 1}, {29: 2}, {29: 3}], [0.0, -7, -10], None, [1 > 0, 0 > 1, 0 > 1]
    )
    report = make_report(isolated, fit_energy(isolated))
    assert "1 isolated atoms)" in " ".join(str(report).split())


def test_warnings_about_the_law(fill, simulate):
    composition, energies, _ = simulate(np.random.default_rng(1), 400, 3, kappa=0.8)
    table = fill(composition, energies)
    text = warnings_of(table)
    assert "collective size law fits better" in text
    assert "size_law='collective'" in text
    assert "fits better" not in warnings_of(table, size_law="auto")


def test_warnings_about_tails_and_missing_labels(fill, simulate):
    composition, energies, _ = simulate(np.random.default_rng(1), 400, 3)
    assert warnings_of(fill(composition, energies)) == ""
    energies[7] += 1000
    assert "Heavy tails" in warnings_of(fill(composition, energies))
    table, forces = fill(composition, energies), AtomicTable()
    report = make_report(
        table, fit_energy(table), forces=forces, force_fit=fit_forces(forces)
    )
    assert any("no labels for the forces" in text for text in report.warnings)
    assert any("`force_scale`" in text for text in report.warnings)


@pytest.mark.parametrize("name", ["acac_botnet", "mlearn6", "nbmotaw_mvl"])
def test_real_sets(fill, read_shared, name):
    composition, energies, isolated = read_shared(name)
    table = fill(composition, energies, None, isolated)
    report = make_report(table, fit_energy(table, FitOptions(size_law="auto")))
    json.dumps(report.as_dict(), allow_nan=False)
    assert str(report)
    exponent = report.content["standardized_energy"]["size_exponent"]
    if name == "acac_botnet":
        assert exponent is None
    else:
        assert 2 < exponent["exponent"] < 3


def test_warnings_about_light_weights(fill):
    generator = np.random.default_rng(0)
    composition = [{1: int(n), 8: int(m)} for n, m in generator.integers(1, 9, (50, 2))]
    energies = generator.normal(size=50)
    light = fill(composition, energies, np.full(50, 1 / 50))
    assert "scale them to a mean of 1" in warnings_of(light)
    assert "mean of 1" not in warnings_of(fill(composition, energies))


def test_few_atoms_with_most_of_the_squared_forces(fill):
    generator = np.random.default_rng(0)
    composition, energies = [{29: n} for n in range(1, 9)], generator.normal(size=8)
    table = fill(composition, energies)
    forces = AtomicTable()
    values = generator.normal(size=(1000, 3))
    values[:10] *= 10
    forces.update(np.full(1000, 29), values)
    report = make_report(
        table, fit_energy(table), forces=forces, force_fit=fit_forces(forces)
    )
    share = np.sum(values[:10] ** 2) / np.sum(values**2)
    assert report.content["forces"]["largest_share"] == pytest.approx(share, rel=0.02)
    text = " ".join(str(report).split())
    assert f"1 % of the atoms carry {100 * share:.0f} % of ΣF²" in text
    (warning,) = (text for text in report.warnings if "squared forces" in text)
    assert "then gives them more weight" in warning
