from pathlib import Path

import numpy as np
import pytest

from tfpes.statistics import CompositionTable, FitOptions
from tfpes.statistics.fit import energy

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def dense(compositions):
    """Return dicts of {atomic number: count} as an array (S, 119)."""
    array = np.zeros((len(compositions), 119))
    for row, composition in zip(array, compositions, strict=True):
        for number, count in composition.items():
            row[number] = count
    return array


def fill(composition, energies, weights=None, isolated=False, **options):
    """Return a table of structures, none of them isolated unless said so."""
    if isinstance(composition, list):
        composition = dense(composition)
    table = CompositionTable(**options)
    if isolated is not None:
        isolated = np.broadcast_to(isolated, len(composition))
    table.update(composition, energies, weights, isolated)
    return table


def simulate(generator, structures, elements, sizes=(1, 60), kappa=0.0):
    """Draw a problem: (composition, energies, (mean, variance))."""
    most = min(4, elements)
    composition = np.zeros((structures, 119))
    for row in composition:
        chosen = generator.choice(elements, generator.integers(1, most + 1), False)
        shares = generator.dirichlet(np.ones(len(chosen)))
        size = np.exp(generator.uniform(*np.log(sizes)))
        row[chosen + 1] = np.maximum(1, np.round(shares * size))
    mean = generator.normal(-5, 3, 119)
    variance = generator.uniform(0.1, 1.0, 119) ** 2
    size = composition.sum(axis=1)
    spread = np.sqrt(composition @ variance + kappa**2 * size**2)
    energies = composition @ mean + spread * generator.normal(size=structures)
    return composition, energies, (mean, variance)


# Session scope, so that Hypothesis accepts them; they hold no state.
@pytest.fixture(scope="session", name="dense")
def dense_fixture():
    return dense


@pytest.fixture(scope="session", name="fill")
def fill_fixture():
    return fill


@pytest.fixture(scope="session", name="simulate")
def simulate_fixture():
    return simulate


@pytest.fixture(scope="session")
def maximum_likelihood():
    """Return a function that fits without prior and without restriction."""

    def fit(table):
        nothing = np.full(119, np.nan)
        known = energy._Known(nothing, nothing, None, nothing)
        options = FitOptions(prior_strength=0)
        return energy._fit(table.rows(), options, known, restricted=False)

    return fit


@pytest.fixture(scope="session")
def read_shared():
    """Return a function that reads (composition, energies, isolated) of a set."""
    cache = {}

    def read(name):
        path = SHARED_DATA / f"{name}.xyz"
        if not path.exists():
            pytest.skip(f"shared data set {name} is not beside the repository")
        if name not in cache:
            io = pytest.importorskip("ase.io")
            frames = io.read(path, ":")
            composition = np.stack(
                [np.bincount(atoms.numbers, minlength=119) for atoms in frames]
            ).astype(float)
            energies = np.array(
                [atoms.calc.results.get("energy", np.nan) for atoms in frames]
            )
            isolated = np.array([len(a) == 1 and not a.pbc.any() for a in frames])
            cache[name] = composition, energies, isolated
        return cache[name]

    return read
