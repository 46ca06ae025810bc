"""What `adapt` learns, from what, and what it refuses."""

from dataclasses import fields

import numpy as np
import pytest
import tensorflow as tf

from tfpes.layers import PESNormalization
from tfpes.statistics import (
    AtomicTable,
    CompositionTable,
    FitOptions,
    fit_energy,
    fit_forces,
    fit_virial,
    virial_mean_square,
)

LABELS = ("energy", "forces", "virial")


def composition(structures):
    counts = np.zeros((len(structures), 119))
    for s, z in zip(structures.structure_index, structures.atomic_numbers, strict=True):
        counts[s, z] += 1
    return counts


def weights_of(layer):
    return {weight.name: weight.numpy() for weight in layer.weights}


def same(left, right, rtol=1e-9):
    left, right = weights_of(left), weights_of(right)
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=rtol, err_msg=name)


def adapted(data, **options):
    layer = PESNormalization(**options)
    layer.adapt(data)
    return layer


def energies(counts, values):
    return {"energy": np.hstack([np.reshape(values, (-1, 1)), counts])}


@pytest.fixture
def dataset(structures):
    return structures.batches(4, labels=LABELS)


@pytest.fixture(scope="module")
def many():
    """Return (composition, energy) of 60 structures of H, C and O."""
    rng = np.random.default_rng(3)
    counts = np.zeros((60, 119))
    counts[:, [1, 6, 8]] = rng.integers(0, 12, (60, 3))
    counts[:, 1] += 2
    spread = np.sqrt(counts[:, [1, 6, 8]] @ [0.01, 0.2, 0.1])
    energy = counts[:, [1, 6, 8]] @ [-13.5, -1030.0, -2040.0]
    return counts, energy + spread * rng.normal(size=60)


# -- what it learns -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size_law": "collective"},
        {"size_law": "auto", "per_element": False},
        {"isolated_atoms": "include", "prior_strength": 2.0},
        {"robust": True},
        {"energy_mean": {"H": -13.0, "Cu": -301.0}},
        {"energy_variance": {"Cu": 0.125}, "collective_variance": 0.5},
    ],
    ids=str,
)
def test_statistics_of_a_dataset_are_those_of_its_columns(structures, dataset, options):
    layer = adapted(dataset, **options)
    counts, isolated = composition(structures), structures.isolated_atoms
    robust = options.get("robust", False)
    table = CompositionTable(keep_structures=robust)
    table.update(counts, structures.energy, None, isolated)
    direct = dict(options)
    for name in ("energy_mean", "energy_variance"):
        if name in options:
            direct[name] = np.full(119, np.nan)
            for symbol, z in (("H", 1), ("Cu", 29)):
                if symbol in options[name]:
                    direct[name][z] = options[name][symbol]
    fit_options = FitOptions(
        **{f.name: direct.pop(f.name) for f in fields(FitOptions) if f.name in direct}
    )
    energy = fit_energy(table, fit_options, **direct)
    atoms = AtomicTable()
    # The forces of isolated atoms vanish by symmetry: they say nothing of the others.
    bound = ~isolated[structures.structure_index]
    atoms.update(structures.atomic_numbers[bound], structures.forces[bound])
    virials = CompositionTable()
    square = virial_mean_square(structures.virial)
    virials.update(counts, square, None, isolated)
    expected = {
        "energy_mean": energy.mean,
        "energy_variance": np.where(np.arange(119) > 0, energy.variance, 0.0),
        "collective_variance": energy.collective_variance,
        "force_scale": fit_forces(atoms, fit_options).scale,
        "virial_scale": fit_virial(virials, fit_options).scale,
    }
    found = weights_of(layer)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, err_msg=name)
    given = np.isin(np.arange(119), [29] if "energy_variance" in options else [])
    np.testing.assert_array_equal(found["seen"], energy.seen | given)
    assert str(layer.report)


def test_weighted_least_squares(many, close):
    # One variance for all elements: μ is the least-squares fit weighted with 1/N,
    # σ² its residual variance with S - T degrees of freedom.
    counts, energy = many
    layer = adapted([energies(counts, energy)], per_element=False)
    n, size = counts[:, [1, 6, 8]], counts.sum(axis=1)
    root = np.sqrt(size)
    mean, *_ = np.linalg.lstsq(n / root[:, None], energy / root)
    residual = energy - n @ mean
    close(layer.energy_mean.numpy()[[1, 6, 8]], mean, "network64")
    variance = np.sum(residual**2 / size) / (60 - 3)
    np.testing.assert_allclose(
        layer.energy_variance.numpy()[1:], np.full(118, variance), rtol=1e-6
    )


def test_standardized_labels_have_unit_variance(many):
    counts, energy = many
    # Three degrees of freedom are used up. With one variance for all elements that
    # is exact; the prior on single variances moves it a little.
    for options, bound in (
        ({"per_element": False}, 1e-6),
        ({}, 0.05),
        ({"size_law": "collective"}, 0.05),
    ):
        layer = adapted([energies(counts, energy)], **options)
        standardized = layer.standardize_energy(energy, counts).numpy()
        assert abs(np.sum(standardized**2) / 57 - 1) < bound
        assert abs(standardized.mean()) < 0.1


def test_force_scale_by_a_loop():
    rng = np.random.default_rng(0)
    numbers = np.array([1, 1, 8, 8, 8, 0, 29])
    forces = rng.normal(size=(7, 3)).astype(np.float32)
    forces[1] = np.nan
    forces[3, 2] = np.nan
    forces[5] = np.nan
    forces[6] = 0.0
    columns = [forces, numbers[:, None], np.zeros((7, 1))]
    counts = np.zeros((1, 119))
    counts[0, [1, 8, 29]] = 2, 3, 1
    targets = {"forces": np.hstack(columns).astype(np.float32)}
    layer = adapted([{**targets, **energies(counts, [-1.0])}], prior_strength=4.0)
    squares, components = dict.fromkeys([1, 8, 29], 0.0), dict.fromkeys([1, 8, 29], 0)
    for z, force in zip(numbers, forces.astype(float), strict=True):
        for value in force:
            if z and not np.isnan(value):
                squares[z] += value**2
                components[z] += 1
    pooled = sum(squares.values()) / sum(components.values())
    for z in (1, 8, 29):
        expected = (squares[z] + 12 * pooled) / (components[z] + 12)
        np.testing.assert_allclose(
            layer.force_scale.numpy()[z] ** 2, expected, rtol=1e-12
        )
    np.testing.assert_allclose(layer.force_scale.numpy()[6] ** 2, pooled, rtol=1e-12)


def test_shared_set_has_unit_variance(shared):
    data = shared("acac_botnet")
    layer = adapted(data.batches(32))
    total, count = 0.0, 0
    for _, targets in data.batches(32).map(lambda x, y: (x, layer(y))):
        energy = targets["energy"].numpy()
        several = energy[:, 1:].sum(axis=1) > 1
        total += np.sum(energy[several, 0] ** 2)
        count += several.sum()
    assert abs(total / count - 1) < 0.05


# -- from what ----------------------------------------------------------------------


def test_isolated_atoms_are_found_by_their_edges(structures):
    # A cell of one atom has neighbours: it is not isolated.
    layer = adapted(structures.batches(4, labels=("energy",)))
    without = structures[~structures.isolated_atoms]
    same(layer, adapted(without.batches(4, labels=("energy",))))
    both = adapted(structures.batches(4), isolated_atoms="include")
    assert not np.allclose(both.energy_mean.numpy(), layer.energy_mean.numpy())


def test_targets_alone(structures, dataset):
    # Nothing tells a cell of one atom from an isolated atom then.
    layer = adapted(dataset.map(lambda inputs, targets: targets))
    several = structures[structures.num_atoms > 1]
    assert len(several) < len(structures) - structures.isolated_atoms.sum()
    reference = adapted(several.batches(4))
    np.testing.assert_allclose(
        layer.energy_variance.numpy(), reference.energy_variance.numpy(), rtol=1e-9
    )


def test_other_inputs_tell_isolated_atoms_by_the_cell(structures, dataset):
    with_cell = dataset.map(lambda inputs, targets: ({"cell": inputs["cell"]}, targets))
    same(adapted(with_cell), adapted(dataset))
    alone = dataset.map(lambda inputs, targets: (inputs["positions"], targets))
    targets = dataset.map(lambda inputs, targets: targets)
    same(adapted(alone), adapted(targets))


@pytest.mark.parametrize("batch_size", [1, 7, 15])
def test_batch_size_does_not_matter(structures, batch_size):
    same(
        adapted(structures.batches(batch_size, labels=LABELS)),
        adapted(structures.batches(4, shuffle=True, labels=LABELS)),
    )


def test_single_batch(structures):
    dataset = structures.batches(15, labels=LABELS)
    (batch,) = dataset
    same(adapted(batch), adapted(dataset))
    same(adapted(batch[1]), adapted([batch[1]]))


def test_arrays(structures):
    ((inputs, targets),) = structures.batches(15, labels=LABELS)
    arrays = [{k: v.numpy() for k, v in part.items()} for part in (inputs, targets)]
    weights = {key: np.ones(len(target)) for key, target in targets.items()}
    reference = adapted((inputs, targets))
    same(adapted(tuple(arrays)), reference, 0)
    same(adapted((*arrays, weights)), reference)
    same(adapted((*arrays, {})), reference, 0)


def test_weights_in_a_dataset(structures, dataset):
    def weigh(inputs, targets):
        ones = {key: tf.ones(len(target)) for key, target in targets.items()}
        return inputs, targets, ones | {"forces": 2 * ones["forces"]}

    layer = adapted(dataset.map(weigh), prior_strength=0.0)
    same(layer, adapted(dataset, prior_strength=0.0))


def test_one_shot_iterator(structures, dataset):
    same(adapted(batch for batch in dataset), adapted(dataset))


def test_nan_labels_are_not_there(many):
    counts, energy = many
    reference = adapted([energies(counts[:40], energy[:40])])
    energy = np.where(np.arange(60) < 40, energy, np.nan)
    layer = adapted([energies(counts, energy)])
    same(layer, reference)


def test_weights_count(many):
    counts, energy = many
    weight = np.arange(60) % 3
    targets = energies(counts, energy)
    layer = adapted([(None, targets, {"energy": weight})])
    repeated = energies(np.repeat(counts, weight, 0), np.repeat(energy, weight))
    same(layer, adapted([repeated]))


def test_weights_of_forces_and_virials(structures):
    ((inputs, targets),) = structures.batches(15, labels=LABELS)
    weights = {key: np.arange(len(target)) % 2 for key, target in targets.items()}
    layer = adapted([(inputs, targets, weights)])
    kept = {}
    for key, target in targets.items():
        width = target.shape[1] - 119 if key != "forces" else 3
        values = np.where(weights[key][:, None] > 0, target[:, :width], np.nan)
        kept[key] = np.hstack([values, target[:, width:]])
    same(layer, adapted([(inputs, kept)]))


def test_steps(structures):
    batches = list(structures.batches(4))
    same(adapted(batches[:2]), steps(batches, 2))


def steps(batches, count):
    layer = PESNormalization()
    layer.adapt(batches, steps=count)
    return layer


def test_steps_take_no_more_than_they_use(structures):
    batches = list(structures.batches(4))
    iterator = iter(batches)
    steps(iterator, 2)
    assert len(list(iterator)) == len(batches) - 2


def test_infinite_data_with_steps(structures):
    dataset = structures.batches(15)
    same(steps(dataset.repeat(), 1), adapted(dataset))


def test_progress_bar(structures, capsys):
    layer = PESNormalization()
    layer.adapt(structures.batches(4), verbose=1)
    assert "4/4" in capsys.readouterr().out
    layer.adapt(iter(structures.batches(4)), verbose=1)
    assert "4/" in capsys.readouterr().out
    layer.adapt(structures.batches(4), verbose=0)
    assert capsys.readouterr().out == ""


def test_life_cycle_equals_adapt(structures, dataset):
    reference = adapted(dataset)
    batches = list(dataset)
    layer = PESNormalization()
    layer.update_state(batches[0])
    layer.reset_state()
    for batch in batches[:2]:
        layer.update_state(batch)
    others = [PESNormalization(), PESNormalization()]
    for other, batch in zip(others, batches[2:], strict=True):
        other.update_state(batch)
    layer.merge_state(others)
    assert not layer.is_adapted
    layer.finalize_state()
    same(layer, reference)


def test_more_data_after_adapt(structures):
    first, second = list(structures.batches(8))
    layer = adapted([first])
    layer.update_state(second)
    layer.finalize_state()
    same(layer, adapted([first, second]))


def test_adapt_again_replaces(many, structures):
    counts, energy = many
    layer = adapted(structures.batches(4))
    layer.adapt([energies(counts, energy)])
    reference = adapted([energies(counts, energy)])
    for name in ("energy_mean", "energy_variance", "seen", "force_scale"):
        np.testing.assert_array_equal(
            weights_of(layer)[name], weights_of(reference)[name]
        )


def test_given_force_and_virial_scales_are_kept(dataset):
    plain = adapted(dataset)
    layer = adapted(dataset, force_scale={"H": 7.0}, virial_scale={"Cu": 9.0})
    for name, z, value in (("force_scale", 1, 7.0), ("virial_scale", 29, 9.0)):
        expected = weights_of(plain)[name].copy()
        expected[z] = value
        np.testing.assert_array_equal(weights_of(layer)[name], expected)


def test_traced_function_sees_a_later_adapt(many, close):
    counts, energy = many
    layer = adapted([energies(counts, energy)])
    traced = tf.function(lambda e, n: layer.standardize_energy(e, n))
    close(traced(energy, counts), layer.standardize_energy(energy, counts), scale=1)
    before = traced(energy, counts).numpy()
    layer.adapt([energies(counts, 3 * energy)])
    after = traced(energy, counts).numpy()
    close(after, layer.standardize_energy(energy, counts), "network64", scale=1)
    assert traced.experimental_get_tracing_count() == 1
    assert not np.allclose(before, after)


def test_units_do_not_matter(many, close):
    counts, energy = many
    electronvolt = adapted([energies(counts, energy)])
    hartree = adapted([energies(counts, energy / 27.211386)])
    close(
        hartree.standardize_energy(energy / 27.211386, counts),
        electronvolt.standardize_energy(energy, counts).numpy(),
        "differences",
    )


# -- what it refuses ----------------------------------------------------------------


@pytest.fixture
def unchanged(many):
    """Return a layer; after the test its state is what it was."""
    layer = adapted([energies(*many)])
    before, report = weights_of(layer), layer.report
    yield layer
    for name, value in weights_of(layer).items():
        np.testing.assert_array_equal(value, before[name])
    assert layer.report is report


@pytest.mark.parametrize("data", [[], iter(())], ids=["list", "iterator"])
def test_no_data(unchanged, data):
    with pytest.raises(ValueError, match=r"at least one structure. Received: none"):
        unchanged.adapt(data)


def test_no_structure_in_any_batch(unchanged):
    with pytest.raises(ValueError, match=r"at least one structure. Received: none"):
        unchanged.adapt([energies(np.zeros((3, 119)), np.full(3, np.nan))])


def test_no_steps(unchanged, many):
    with pytest.raises(ValueError, match=r"at least one structure. Received: none"):
        unchanged.adapt([energies(*many)], steps=0)


def test_negative_steps(unchanged, many):
    with pytest.raises(ValueError, match=r"or None for all. Received: -1"):
        unchanged.adapt([energies(*many)], steps=-1)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_make_no_sense(unchanged, many, weight):
    weights = np.where(np.arange(60) == 7, weight, 1.0)
    with pytest.raises(ValueError, match=r"not negative. Received: .* at index 7"):
        unchanged.adapt([(None, energies(*many), {"energy": weights})])


def test_weights_of_another_shape(unchanged, many):
    with pytest.raises(ValueError, match=r"'energy' must be \(60,\), one for"):
        unchanged.adapt([(None, energies(*many), {"energy": np.ones((60, 2))})])


def test_no_label(unchanged, many):
    counts, energy = many
    with pytest.raises(
        ValueError, match=r"at least one structure with an energy. Received: 60 struct"
    ):
        unchanged.adapt([energies(counts, np.full_like(energy, np.nan))])


def test_isolated_atoms_only(unchanged):
    counts = np.zeros((2, 119))
    counts[:, 1] = 1
    with pytest.raises(ValueError, match="`isolated_atoms='include'` to use them"):
        unchanged.adapt([energies(counts, [-13.0, -13.1])])


def test_infinite_label(unchanged, many):
    counts, energy = many
    energy = np.where(np.arange(60) == 4, np.inf, energy)
    with pytest.raises(ValueError, match=r"must be finite.*inf for structure 4"):
        unchanged.adapt([energies(counts, energy)])


def test_bad_batch_in_the_middle(unchanged, many):
    with pytest.raises(ValueError, match="at least one of the keys 'energy'"):
        unchanged.adapt([energies(*many), {"dipole": np.zeros(3)}])


@pytest.mark.parametrize(
    "batch", [np.zeros((3, 120)), ("a", "b"), ({}, {}, {}, {}), ({}, {}, np.ones(3))]
)
def test_batches_of_another_kind(unchanged, batch):
    with pytest.raises(ValueError, match="`adapt` takes batches of `targets`"):
        unchanged.adapt([batch])


def test_labels_that_are_not_packed(unchanged):
    with pytest.raises(ValueError, match=r"shape \(S, 120\) for energies"):
        unchanged.adapt([{"energy": np.zeros(5)}])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("size_law", "quadratic", "`size_law` must be one of"),
        ("isolated_atoms", "ignore", "`isolated_atoms` must be one of"),
        ("prior_strength", -1.0, "at least 0"),
    ],
)
def test_options(many, option, value, message):
    with pytest.raises(ValueError, match=message):
        adapted([energies(*many)], **{option: value})


def test_merge_of_something_else():
    with pytest.raises(
        TypeError, match=r"takes `PESNormalization` layers. Received: d"
    ):
        PESNormalization().merge_state([{}])


def test_finalize_without_data():
    with pytest.raises(ValueError, match="at least one structure"):
        PESNormalization().finalize_state()


def test_use_before_adapt(many):
    layer = PESNormalization()
    assert not layer.is_adapted
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        layer(energies(*many))
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        layer.require_adapted()
    with pytest.raises(RuntimeError, match="not adapted in this process"):
        _ = layer.report
    with pytest.raises(ValueError, match="knows the elements none"):
        layer.energy_scale(many[0])
