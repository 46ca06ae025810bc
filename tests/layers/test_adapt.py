"""What `adapt` learns, from what, and what it refuses."""

import dataclasses

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
    split_virial,
)

LABELS = ("energy", "forces", "virial")


def composition(structures):
    counts = np.zeros((len(structures), 119))
    for s, z in zip(structures.structure_index, structures.atomic_numbers, strict=True):
        counts[s, z] += 1
    return counts


def same(left, right, rtol=1e-9):
    for name, value in left.statistics.items():
        expected = right.statistics[name]
        np.testing.assert_allclose(value, expected, rtol=rtol, err_msg=name)


def adapted(data, **options):
    layer = PESNormalization(**options)
    layer.adapt(data)
    return layer


def energies(counts, values):
    values = np.reshape(values, (-1, 1))
    return {"energy": np.hstack([values, 0 * values, counts])}


@pytest.fixture
def dataset(structures):
    return structures.batches(4, labels=LABELS, isolated_atoms="include")


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
    ("options", "given"),
    [
        ({}, {}),
        ({"size_law": "collective"}, {}),
        ({"size_law": "auto", "per_element": False}, {}),
        ({"isolated_atoms": "include", "prior_strength": 2.0}, {}),
        ({"robust": True}, {}),
        ({}, {"energy_mean": {1: -13.0, 29: -301.0}}),
        ({}, {"energy_variance": {29: 0.125}, "collective_variance": 0.5}),
    ],
    ids=str,
)
def test_statistics_of_a_dataset_are_those_of_its_columns(
    structures, dataset, options, given
):
    layer = adapted(dataset, **options, **given)
    counts, isolated = composition(structures), structures.isolated_atoms
    table = CompositionTable(keep_structures=options.get("robust", False))
    table.update(counts, structures.energy, None, isolated)
    direct = {
        name: [value.get(z, np.nan) for z in range(119)]
        if isinstance(value, dict)
        else value
        for name, value in given.items()
    }
    fit_options = FitOptions(**options)
    energy = fit_energy(table, fit_options, **direct)
    atoms = AtomicTable()
    # The forces of isolated atoms vanish by symmetry: they say nothing of the others.
    bound = ~isolated[structures.structure_index]
    owner = structures.structure_index[bound]
    forces = structures.forces[bound]
    atoms.update(structures.atomic_numbers[bound], forces, None, owner)
    keep = options.get("robust", False)
    pressures = CompositionTable(keep_structures=keep)
    deviators = CompositionTable()
    for table, part in zip(
        (pressures, deviators), split_virial(structures.virial), strict=True
    ):
        table.update(counts, part, None, isolated)
    expected = {
        "energy_mean": energy.mean,
        "energy_variance": np.where(np.arange(119) > 0, energy.variance, 0.0),
        "collective_variance": energy.collective_variance,
        "force_scale": fit_forces(atoms, fit_options).scale,
        **fit_virial(pressures, deviators, fit_options).weights(),
    }
    found = layer.statistics
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-8, err_msg=name)
    known = np.isin(np.arange(119), list(given.get("energy_variance", [])))
    np.testing.assert_array_equal(found["seen"], energy.seen | known)
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
            if z and not np.isnan(value) and value != 0:
                squares[z] += value**2
                components[z] += 1
    pooled = sum(squares.values()) / sum(components.values())
    for z in (1, 8, 29):
        # Four imaginary structures like this one; zeros tell nothing of Cu.
        own = squares[z] / components[z] if components[z] else pooled
        expected = (own + 4 * pooled) / (1 + 4)
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
        several = energy[:, 2:].sum(axis=1) > 1
        total += np.sum(energy[several, 0] ** 2)
        count += several.sum()
    assert abs(total / count - 1) < 0.05


# -- from what ----------------------------------------------------------------------


def test_isolated_atoms_are_found_by_their_edges(structures):
    # A cell of one atom has neighbours: it is not isolated.
    everything = structures.batches(4, labels=("energy",), isolated_atoms="include")
    layer = adapted(everything)
    without = structures[~structures.isolated_atoms]
    for data in (without, structures):
        other = adapted(data.batches(4, labels=("energy",)))
        baselines = [x.energy_baseline(composition(without)) for x in (layer, other)]
        np.testing.assert_allclose(*baselines, rtol=1e-9)
        # Isolated atoms tell the mean of elements that nothing else has.
        other.energy_mean.assign(layer.energy_mean)
        same(layer, other)
    both = adapted(everything, isolated_atoms="include")
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


def test_an_endless_dataset_needs_steps(structures):
    with pytest.raises(ValueError, match=r"one without an end.*Pass `steps`"):
        PESNormalization().adapt(structures.batches(4).repeat())


def test_steps(structures):
    dataset = structures.batches(4)
    batches = list(dataset)
    layer = PESNormalization()
    layer.adapt(dataset.repeat(), steps=2)
    same(layer, adapted(batches[:2]))
    iterator = iter(batches)
    layer.adapt(iterator, steps=2)
    # It takes no more than it uses.
    assert len(list(iterator)) == len(batches) - 2


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


def test_adapt_again_replaces(many, structures):
    counts, energy = many
    layer = adapted(structures.batches(4))
    layer.adapt([energies(counts, energy)])
    reference = adapted([energies(counts, energy)])
    for name in ("energy_mean", "energy_variance", "seen", "force_scale"):
        np.testing.assert_array_equal(
            layer.statistics[name], reference.statistics[name]
        )


def test_given_force_and_virial_scales_are_kept(dataset):
    plain = adapted(dataset)
    layer = adapted(dataset, force_scale={"H": 7.0}, virial_scale={"Cu": 9.0})
    for name, z, value in (("force_scale", 1, 7.0), ("virial_scale", 29, 9.0)):
        expected = plain.statistics[name].copy()
        expected[z] = value
        np.testing.assert_array_equal(layer.statistics[name], expected)


@pytest.mark.parametrize("label", ["forces", "virial"])
def test_one_label_other_than_energies(dataset, structures, label, tmp_path):
    """The scales of what was seen can be used; what is missing is said."""
    layer = adapted(structures.batches(4, labels=(label,)))
    whole = adapted(dataset)
    scale = {"forces": "force_scale", "virial": "virial_scale"}[label]
    np.testing.assert_array_equal(layer.statistics[scale], whole.statistics[scale])
    data = structures[~structures.isolated_atoms]
    labels = getattr(data, label).reshape(*getattr(data, label).shape[:1], -1)
    has = np.isfinite(labels).any(axis=1)
    if label == "virial":
        has = has[data.structure_index]
    assert set(np.flatnonzero(layer.seen.numpy())) == set(data.atomic_numbers[has])
    layer.to_json(tmp_path / "statistics.json")
    for one in (layer, PESNormalization.from_json(tmp_path / "statistics.json")):
        one.require_adapted(label)
        ((_, target),) = structures[8:10].batches(2, labels=(label,))
        values = one(target)[label].numpy()
        assert np.isfinite(values).sum() == np.isfinite(target[label]).sum()
        with pytest.raises(RuntimeError, match="without any of the key 'energy'"):
            one.require_adapted()


def test_given_scales_alone():
    layer = PESNormalization(force_scale={"H": 0.5}, collective_variance=0.1)
    assert np.flatnonzero(layer.seen.numpy()).tolist() == [1]
    assert layer.standardize_forces(np.ones((1, 3)), [1]).numpy().tolist() == [[2] * 3]
    with pytest.raises(RuntimeError, match="without any of the key 'energy'"):
        layer.require_adapted()


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


NONE = np.zeros((3, 119))
BAD_DATA = {
    "no batch": ([], "one structure. Received: none"),
    "empty iterator": (iter(()), "one structure. Received: none"),
    "padding": ([energies(NONE, np.full(3, np.nan))], "one structure. Received: none"),
    "no energy": (
        [energies(2 * np.eye(119)[[29, 29, 8]], np.full(3, np.nan))],
        "at least one structure with an energy. Received: 3 structures",
    ),
    "isolated atoms": (
        [energies(np.eye(119)[[1, 1]], [-13.0, -13.1])],
        "`isolated_atoms='include'` to use them",
    ),
    "unpacked energies": ([{"energy": np.zeros(5)}], r"shape \(S, 121\) for energies"),
    "unpacked forces": (
        [(None, {"forces": np.zeros((5, 3))}, {"forces": np.ones(5)})],
        r"shape \(A, 5\)",
    ),
    **{
        f"batch {number}": ([batch], "`adapt` takes batches of `targets`")
        for number, batch in enumerate(
            (np.zeros((3, 120)), ("a", "b"), ({}, {}, {}, {}), ({}, {}, np.ones(3)))
        )
    },
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_without_anything_to_learn(many, case):
    layer = adapted([energies(*many)])
    before, report = layer.statistics, layer.report
    data, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        layer.adapt(data)
    for steps, message in ((0, "Received: none"), (-1, "None for all. Received: -1")):
        with pytest.raises(ValueError, match=message):
            layer.adapt([energies(*many)], steps=steps)
    for name, value in layer.statistics.items():
        np.testing.assert_array_equal(value, before[name])
    assert layer.report is report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "place", "value", "message"),
    [
        ("energy", (4, 0), np.inf, "must be finite.*inf for structure 4"),
        ("forces", (0, 0), np.inf, "`forces` must be finite"),
        ("forces", (0, 3), 119, "from 0 .padding. to 118. Received: 119"),
        ("forces", (0, 4), 99, "one of the structures of the batch, 0 to"),
        ("virial", np.s_[:, :9], np.inf, "`values` must be finite"),
        ("energy", 7, -1.0, "not negative. Received: .* at index 7"),
        ("energy", 7, np.inf, "not negative. Received: .* at index 7"),
        ("forces", 0, -1.0, "`weights` must be finite and not negative"),
        ("virial", 0, np.nan, "`weights` must be finite and not negative"),
        (
            "energy",
            None,
            np.ones((3, 2)),
            r"'energy' must be \(16,\), one for each str",
        ),
        ("forces", None, np.ones(3), "'forces' must be .*, one for each atom"),
        ("force", None, np.ones(3), "have the keys of the targets, .*Received: force"),
        ("dipole", "only", 0.0, "at least one of the keys 'energy'"),
    ],
)
def test_a_bad_batch_changes_nothing(structures, key, place, value, message):
    """Targets with a wrong number at a place (a tuple), or weights with one."""
    (good,) = structures.batches(15, labels=LABELS, isolated_atoms="include")
    targets = {name: np.array(target) for name, target in good[1].items()}
    weights = {}
    if isinstance(place, tuple):
        targets[key][place] = value
    elif place == "only":
        targets = {key: value}
    else:
        weights[key] = (
            np.ones(len(targets.get(key, ()))) if place is not None else value
        )
        if place is not None:
            weights[key][place] = value
    layer = adapted([good])
    before, report = layer.statistics, layer.report
    for refuse in (layer.update_state, lambda batch: layer.adapt([good, batch])):
        with pytest.raises(ValueError, match=message):
            refuse((good[0], targets, weights))
    assert layer.report is report
    layer.finalize_state()
    for name, number in layer.statistics.items():
        np.testing.assert_array_equal(number, before[name])


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("size_law", "colective", "`size_law` must be one of.*'colective'"),
        ("isolated_atoms", "drop", "`isolated_atoms` must be one of.*'drop'"),
        ("prior_strength", -3, "at least 0. Received: -3"),
        ("robust", "yes", "`robust` must be True or False. Received: 'yes'"),
        ("per_element", 1, "`per_element` must be True or False. Received: 1"),
    ],
)
def test_options_are_checked_when_the_layer_is_made(option, value, message):
    error = TypeError if "True or False" in message else ValueError
    with pytest.raises(error, match=message):
        PESNormalization(**{option: value})


def test_options_may_be_replaced(many):
    layer = adapted([energies(*many)])
    layer.options = dataclasses.replace(layer.options, size_law="collective")
    layer.adapt([energies(*many)])
    same(layer, adapted([energies(*many)], size_law="collective"), 0)
    assert layer.get_config()["size_law"] == "collective"


def test_merge_of_something_else():
    with pytest.raises(TypeError, match=r"takes `PESNormalization` l.* Received: dict"):
        PESNormalization().merge_state([{}])


def test_use_before_adapt(many):
    layer = PESNormalization()
    assert not layer.is_adapted
    with pytest.raises(ValueError, match="at least one structure"):
        layer.finalize_state()
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        layer(energies(*many))
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        layer.require_adapted()
    with pytest.raises(RuntimeError, match="not adapted in this process"):
        _ = layer.report
    with pytest.raises(ValueError, match="knows the elements none"):
        layer.energy_scale(many[0])
