"""Weights for other packages, against their losses as docs/peers.md has them."""

import json

import numpy as np
import pytest

import tfpes
from tfpes.diagnostics.peers import peer_text, peer_weights
from tfpes.evaluation import compositions
from tfpes.losses import EnergyLoss, ForceLoss
from tfpes.targets import atom_target, structure_target

RATIO = 0.3
MEAN, VARIANCE = {1: -3.0, 8: -400.0, 29: -50.0}, {1: 0.01, 8: 0.2, 29: 0.05}
SCALE = {1: 0.5, 8: 2.0, 29: 1.0}


def layer(kappa=0.03):
    return tfpes.layers.PESNormalization(
        energy_mean=MEAN,
        energy_variance=VARIANCE,
        collective_variance=kappa,
        force_scale=SCALE,
        isolated_atoms="include",
    )


def ours(structures, norm):
    """Return our loss of errors of energies and forces."""
    counts = compositions(structures)
    energy = structure_target(np.zeros(len(counts)), counts)
    numbers, owner = structures.atomic_numbers, structures.structure_index
    forces = atom_target(np.zeros((len(numbers), 3)), numbers, owner)
    losses = EnergyLoss(norm), ForceLoss(norm, dtype="float64")
    return lambda dE, dF: RATIO * losses[0](energy, dE) + losses[1](forces, dF)


def per_atom(structures, a, b):
    """The loss of mace; grace, nequip and metatrain multiply it by a number."""
    n = structures.num_atoms
    return lambda dE, dF: a * np.mean((dE / n) ** 2) + b * np.mean(dF**2)


def deepmd(structures, a, b, power):
    n, owner = structures.num_atoms, structures.structure_index

    def loss(dE, dF):
        forces = np.bincount(owner, (dF**2).mean(axis=1)) / n
        return a * np.mean(dE**2 / n**power) + b * np.mean(forces)

    return loss


def documented(structures, found):
    others, deep = found
    assert (others.name, deep.name) == ("others", "deepmd")
    return (
        per_atom(structures, others.energy, others.forces),
        deepmd(structures, deep.energy, deep.forces, deep.power),
    )


def test_losses_are_equal_where_sizes_and_elements_are(simulated):
    rng = np.random.default_rng(0)
    forces = rng.normal(size=(12, 3))
    structures, norm = simulated([{29: 4}] * 3, rng.normal(size=3), forces), layer()
    dE, dF = rng.normal(size=3), rng.normal(size=(12, 3))
    found = peer_weights(structures, norm, RATIO)
    for loss in documented(structures, found):
        value = float(ours(structures, norm)(dE, dF))
        assert loss(dE, dF) == pytest.approx(value, rel=1e-12)
    for weights in found:
        factors = [*weights.energies_off.values(), *weights.forces_off.values()]
        np.testing.assert_allclose(factors, 1.0, rtol=1e-12)


@pytest.mark.parametrize(("kappa", "power"), [(0.0, 1), (10.0, 2)])
def test_factors_are_those_of_the_losses(simulated, kappa, power):
    """The loss of an error of 1 in one label alone is the weight of that label."""
    rng = np.random.default_rng(1)
    composition = [{1: 2, 8: 1}, {29: 2}, {8: 4, 29: 5}]
    energy, forces = np.array([1.0, np.nan, 2.0]), rng.normal(size=(14, 3))
    forces[0, 1] = np.nan
    structures, norm = simulated(composition, energy, forces), layer(kappa)
    found = peer_weights(structures, norm, RATIO)
    assert found[1].power == power
    mine, none = ours(structures, norm), (np.zeros(3), np.zeros((14, 3)))
    for weights, loss in zip(found, documented(structures, found), strict=True):
        by_structure, by_atom = [], []
        for values, rows in ((by_structure, 3), (by_atom, 14)):
            for row in range(rows):
                dE, dF = (array.copy() for array in none)
                (dE if values is by_structure else dF)[row] = 1.0
                values.append(loss(dE, dF) / float(mine(dE, dF)))
        # Ours averages over labels that are there, theirs as if all were.
        scale = by_structure[0] / weights.energies_off["H"]
        energies = {"H": 0, "O": [0, 2], "Cu": 2, "2-4": 0, "5-16": 2}
        for name, rows in energies.items():
            mean = np.exp(np.mean(np.log(np.array(by_structure)[rows]))) / scale
            assert weights.energies_off[name] == pytest.approx(mean)
        assert np.prod(np.array(by_structure)[[0, 2]] / scale) == pytest.approx(1.0)
        labels = np.array(by_atom)[1:]
        labels /= np.exp(np.mean(np.log(labels)))
        numbers = structures.atomic_numbers[1:]
        for name, z in (("H", 1), ("O", 8), ("Cu", 29)):
            mean = np.exp(np.mean(np.log(labels[numbers == z])))
            assert weights.forces_off[name] == pytest.approx(mean)


def test_lines_to_paste(simulated):
    structures = simulated([{1: 2, 8: 1}], [1.0], np.ones((3, 3)))
    others, deep = peer_weights(structures, layer(), RATIO)
    text = peer_text([others, deep], RATIO)
    assert f"--energy_weight={others.energy:.4g}" in text
    assert f"coeffs: {{total_energy: {others.energy:.4g}, forces: 1.587" in text
    lines = json.loads("{" + str(deep).split("\n", 1)[1] + "}")
    assert lines["start_pref_e"] == lines["limit_pref_e"]
    assert lines["limit_pref_e"] == pytest.approx(deep.energy, rel=1e-3)
    assert max(map(len, text.splitlines())) <= 80


def test_what_cannot_be_matched(simulated):
    structures = simulated([{29: 4}], [1.0])
    assert peer_weights(structures, layer()) == []
    assert "one is missing" in peer_text([])
    with pytest.raises(ValueError, match="must be positive"):
        peer_weights(structures, layer(), 0.0)
