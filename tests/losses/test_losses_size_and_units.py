"""What the losses promise: no dependence on size, composition and units."""

import numpy as np
import pytest
import tensorflow as tf
from ase.units import Hartree, kcal, mol

import tfpes
from tfpes.layers import PESNormalization
from tfpes.losses import EnergyLoss, ForceLoss, VirialLoss

ELEMENTS = np.array([1, 8, 29, 79])
DEVIATION = np.array([0.05, 0.3, 0.12, 0.8])
FORCE = np.array([0.4, 1.5, 0.9, 2.0])
VIRIAL = np.array([0.2, 0.7, 1.1, 3.0])
SIZES = (1, 3, 10, 100, 3_000, 100_000)
# The standard error of a mean of squares is then 0.6 %.
DRAWS = 50_000
KAPPA = {"independent": 0.0, "collective": 0.02}


def make_norm(kappa=0.0):
    def by_element(values):
        return dict(zip(ELEMENTS.tolist(), values.tolist(), strict=True))

    return PESNormalization(
        energy_mean=dict.fromkeys(ELEMENTS.tolist(), -3.0),
        energy_variance=by_element(DEVIATION**2),
        collective_variance=kappa**2,
        force_scale=by_element(FORCE),
        virial_scale=by_element(VIRIAL),
    )


def random_counts(rng, size):
    """Draw compositions of `size` atoms: some pure, some of all elements."""
    share = rng.dirichlet(np.full(len(ELEMENTS), 0.4), size=DRAWS)
    return rng.multinomial(size, share).astype(float)


def full(counts):
    composition = np.zeros((len(counts), 119))
    composition[:, ELEMENTS] = counts
    return composition


@pytest.mark.parametrize("law", KAPPA)
def test_energies_of_any_size_and_composition(law):
    """Local and collective deviations are drawn; no formula of a scale is used."""
    rng = np.random.default_rng(0)
    norm = make_norm(KAPPA[law])
    loss = EnergyLoss(norm)
    losses, raw, per_atom = [], [], []
    for size in SIZES:
        counts = random_counts(rng, size)
        local = np.sqrt(counts) * DEVIATION * rng.normal(size=counts.shape)
        error = local.sum(axis=1) + size * KAPPA[law] * rng.normal(size=DRAWS)
        label = counts @ np.full(len(ELEMENTS), -3.0)
        target = np.hstack([label[:, None], 0 * label[:, None], full(counts)])
        losses.append(loss(target, label + error).numpy())
        raw.append(np.mean(error**2))
        per_atom.append(np.mean((error / size) ** 2))
        # Structures of one composition among those of this size.
        pure = counts[:, 3] == size
        if pure.sum() > 5_000:
            part = loss(target[pure], (label + error)[pure]).numpy()
            assert part == pytest.approx(1.0, rel=0.06)
    np.testing.assert_allclose(losses, 1.0, rtol=0.02)
    # Others grow as N (independent) or N² (large and collective), or fall by N².
    sizes = np.array(SIZES, float)
    local, collective = np.mean(DEVIATION**2), KAPPA[law] ** 2
    expected = sizes * local + sizes**2 * collective
    np.testing.assert_allclose(raw, expected, rtol=0.02)
    np.testing.assert_allclose(per_atom, expected / sizes**2, rtol=0.02)
    assert raw[-1] / raw[0] > 5e4


def test_virials_of_any_size_and_composition():
    rng = np.random.default_rng(1)
    loss = VirialLoss(make_norm())
    for size in SIZES:
        counts = random_counts(rng, size)[:10_000]
        scale = np.sqrt(counts) * VIRIAL
        error = np.einsum("sz,szc->sc", scale, rng.normal(size=(*counts.shape, 9)))
        target = np.hstack([np.zeros((len(counts), 9)), full(counts)])
        value = loss(target, error.reshape(-1, 3, 3)).numpy()
        assert value == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("average", ["atoms", "structures"])
def test_forces_of_any_size_and_composition(average):
    rng = np.random.default_rng(2)
    loss = ForceLoss(make_norm(), average=average)
    for size in (1, 30, 1_000):
        kind = rng.integers(0, len(ELEMENTS), 30_000)
        error = FORCE[kind][:, None] * rng.normal(size=(len(kind), 3))
        index = np.repeat(np.arange(len(kind) // size), size)
        target = tfpes.targets.atom_target(0 * error, ELEMENTS[kind], index)
        value = loss(target, error.astype(np.float32)).numpy()
        assert value == pytest.approx(1.0, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["independent", "collective"])
@pytest.mark.parametrize("metric", ["mse", "mae", "huber", "log_cosh"])
def test_units(law, metric, crystals, graph):
    """The same data in eV, Hartree and kcal/mol, adapted on each."""
    structures = tfpes.data.read(crystals, 4.0, verbose=False)
    ((_, targets),) = structures.batches(8, labels=("energy", "forces", "virial"))
    width = {"energy": 1, "forces": 3, "virial": 9}
    rng = np.random.default_rng(0)
    error = {key: rng.normal(size=targets[key].shape[0]) for key in width}
    losses = []
    for unit in (1.0, Hartree, kcal / mol):
        labels = {
            key: tf.concat([target[:, : width[key]] / unit, target[:, width[key] :]], 1)
            for key, target in targets.items()
        }
        norm = PESNormalization(size_law=law)
        norm.adapt([labels], verbose=0)
        energy = labels["energy"][:, 0] + error["energy"] / unit
        forces = labels["forces"][:, :3] + error["forces"][:, None] / unit
        virial = tf.reshape(labels["virial"][:, :9], (-1, 3, 3))
        virial += error["virial"][:, None, None] / unit
        losses.append(
            [
                EnergyLoss(norm, metric)(labels["energy"], energy),
                ForceLoss(norm, metric)(labels["forces"], forces),
                VirialLoss(norm, metric)(labels["virial"], virial),
            ]
        )
    assert np.min(losses) > 1e-3
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-6)
