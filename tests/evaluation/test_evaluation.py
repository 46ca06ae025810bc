import csv
import dataclasses
import json
from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.build import bulk, molecule
from rich.console import Console

import tfpes
from tfpes.evaluation import Errors, compositions, predict, size_bins
from tfpes.evaluation.tables import ErrorTable
from tfpes.layers import PESNormalization

KEYS = ("energy", "forces", "virial")
ATOMIC = {1: -13.6, 6: -1030.0, 8: -430.0, 29: -1640.0}


def guess(inputs):
    """Return predictions that depend on all inputs, with NumPy only.

    A function of positions and elements, whatever else is in the batch.
    """
    inputs = {key: np.asarray(value) for key, value in inputs.items()}
    numbers, index = inputs["atomic_numbers"], inputs["structure_index"]
    forces = 0.5 * np.sin(3.0 * inputs["positions"]) * (numbers > 0)[:, None]
    energy = np.zeros(len(inputs["cell"]))
    local = [ATOMIC.get(int(z), 0.0) for z in numbers]
    np.add.at(energy, index, local + forces.sum(axis=1))
    virial = inputs["cell"] @ inputs["cell"].transpose(0, 2, 1) / 9.0
    return {
        "energy": tf.constant(energy),
        "forces": tf.constant(forces),
        "virial": tf.constant(virial, tf.float64),
    }


@pytest.fixture(scope="module")
def frames(labelled):
    """Return molecules and crystals; some labels are missing."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(24):
        name = ("H2O", "CH4", "C2H6", None)[number % 4]
        atoms = bulk("Cu", cubic=True) * (1, 1, 1 + number % 3)
        atoms = molecule(name) if name else atoms
        atoms.rattle(0.2, seed=number)
        size = len(atoms)
        energy = sum(ATOMIC[z] for z in atoms.numbers) + 0.3 * rng.normal()
        forces = rng.normal(size=(size, 3))
        energy = np.nan if number % 7 == 2 else energy
        forces[0] = np.nan if number % 5 == 1 else forces[0]
        forces[:] = np.nan if number % 6 == 5 else forces
        results = {"energy": energy, "forces": forces}
        if name is None:
            results["stress"] = 0.1 * rng.normal(size=6)
        atoms = labelled(atoms, **results)
        if name != "CH4":
            atoms.info["config_type"] = "crystal" if name is None else f"[{name}]"
        made.append(atoms)
    # One structure is right, and one is an isolated atom, far from all others.
    for atoms, energy in ((bulk("Cu"), ATOMIC[29] + 0.01), (Atoms("H"), -50.0)):
        made.append(labelled(atoms, energy=energy, forces=np.full((1, 3), 0.02)))
    made[-1].info["config_type"] = "atom"
    return made


@pytest.fixture(scope="module")
def structures(frames):
    return tfpes.data.read(frames, 4.0, verbose=False)


@pytest.fixture(scope="module")
def norm():
    return PESNormalization(
        energy_mean=ATOMIC,
        energy_variance={z: 0.01 * z for z in ATOMIC},
        collective_variance=0.001,
        force_scale={z: 0.2 * z for z in ATOMIC},
        virial_scale={z: 0.5 * z for z in ATOMIC},
    )


@pytest.fixture(scope="module")
def evaluation(structures, norm):
    return tfpes.evaluate(guess, structures, normalization=norm, batch_size=5)


def reference(structures, norm, chosen, element=None):
    """Return all errors of the chosen structures, one structure after the other."""
    found = defaultdict(list)
    sigma, kappa, eta, tau = (
        getattr(norm, name).numpy()
        for name in (
            "energy_variance",
            "collective_variance",
            "force_scale",
            "virial_scale",
        )
    )
    atoms = 0
    for s in chosen:
        one = structures[int(s)]
        z, size = one.atomic_numbers, len(one.atomic_numbers)
        out = guess(
            {
                "atomic_numbers": z,
                "structure_index": np.zeros(size, int),
                "positions": one.positions,
                "cell": one.cell,
            }
        )
        own = np.full(size, True) if element is None else z == element
        atoms += own.sum()
        error = float(out["energy"][0]) - float(one.energy[0])
        if not np.isnan(error):
            found["e"].append(error / size)
            found["total"].append(error)
            found["e'"].append(error / np.sqrt(sigma[z].sum() + size**2 * kappa))
        difference = np.float64(out["forces"]) - np.float64(one.forces)
        for i in np.flatnonzero(own & ~np.isnan(difference).any(axis=1)):
            label, pred = np.float64(one.forces[i]), np.float64(out["forces"][i])
            found["f"].extend(difference[i])
            found["label"].extend(label)
            found["f'"].extend(difference[i] / eta[z[i]])
            found["norm"].append(np.linalg.norm(difference[i]))
            lengths = np.linalg.norm(label), np.linalg.norm(pred)
            if min(lengths) > 1e-3:
                found["cos"].append(label @ pred / np.prod(lengths))
        if not np.isnan(error) and not np.isnan(difference).all():
            right = abs(error) < 0.02 and np.nanmax(np.abs(difference)) < 0.03
            found["efwt"].append(right)
        if not np.isnan(one.virial).any():
            w = (np.float64(out["virial"][0]) - one.virial[0]).ravel()
            found["w"].extend(w / size)
            # The mean of six components: a third of the trace, and five without.
            found["w'"].append(np.linalg.norm(w) / np.sqrt(6 * np.sum(tau[z] ** 2)))

    def mean(name, change=lambda x: x):
        return float(np.mean(change(np.array(found[name])))) if found[name] else None

    def root(name):
        square = mean(name, np.square)
        return None if square is None else np.sqrt(square)

    spread = root("label")
    return {
        "structures": len(chosen),
        "atoms": int(atoms),
        "energies": len(found["e"]),
        "energy_mae": mean("e", np.abs),
        "energy_rmse": root("e"),
        "total_energy_rmse": root("total"),
        "standardized_energy_rmse": root("e'"),
        "standardized_energy_mean": mean("e'"),
        "force_mae": mean("f", np.abs),
        "force_rmse": root("f"),
        "force_rms_of_labels": spread,
        "relative_force_rmse": root("f") / spread if spread else None,
        "standardized_force_rmse": root("f'"),
        "force_cosine": mean("cos"),
        "max_force_error": max(found["norm"], default=None),
        "efwt": mean("efwt"),
        "virial_mae": mean("w", np.abs),
        "virial_rmse": root("w"),
        "standardized_virial_rmse": root("w'"),
    }


def assert_equal(errors, expected, rtol=1e-9):
    """Compare with a dict, or with other errors."""
    found = dataclasses.asdict(errors)
    if isinstance(expected, Errors):
        expected = dataclasses.asdict(expected)
        assert expected.pop("name") == found["name"]
    found.pop("name")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] is None) == (value is None), name
        if value is not None:
            close = {"rtol": rtol, "atol": 1e-12, "err_msg": name}
            np.testing.assert_allclose(found[name], value, **close)


# -- numbers --------------------------------------------------------------------------


def test_overall_against_a_loop(evaluation, structures, norm):
    expected = reference(structures, norm, range(len(structures) - 1))
    assert None not in expected.values()
    assert 0.0 < expected["efwt"] < 0.2
    assert_equal(evaluation.overall, expected)
    assert evaluation.overall.name == "all"
    # Where it was counted, it alone made the error.
    (alone,) = evaluation.isolated
    assert_equal(alone, reference(structures, norm, [len(structures) - 1]))
    assert alone.energy_mae > 100 * evaluation.overall.energy_mae


def test_groups_against_a_loop(evaluation, structures, norm):
    def compare(rows, names, chosen, elements=(None,) * 4):
        assert [row.name for row in rows] == names
        for row, mask, z in zip(rows, chosen, elements, strict=False):
            expected = reference(structures, norm, np.flatnonzero(mask), z)
            assert_equal(row, expected)

    structures = structures[~structures.isolated_atoms]
    size, kinds = structures.num_atoms, structures.config_type
    bins = [(size >= low) & (size <= high) for low, high in size_bins(size)]
    compare(evaluation.by_size, ["1", "2-4", "5-16"], bins)
    elements = (1, 6, 8, 29)
    held = [compositions(structures)[:, z] > 0 for z in elements]
    compare(evaluation.by_element, ["H", "C", "O", "Cu"], held, elements)
    names = ["(none)", "[C2H6]", "[H2O]", "crystal"]
    of_kinds = [kinds == kind for kind in ("", *names[1:])]
    compare(evaluation.by_config_type, names, of_kinds)
    plain = dataclasses.replace(structures, config_type=np.full(len(size), "", str))
    assert tfpes.evaluate(guess, plain).by_config_type == ()


def test_batches_equal_structures(evaluation, structures, norm):
    dataset = structures.batches(5, labels=KEYS, isolated_atoms="include")
    found = tfpes.evaluate(guess, dataset, normalization=norm)
    for name in ("overall", "isolated", "by_size", "by_element"):
        pairs = getattr(found, name), getattr(evaluation, name)
        for row, other in zip(*(np.atleast_1d(p) for p in pairs), strict=True):
            assert_equal(row, other)
    assert found.by_config_type == ()


def test_metrics_give_the_same(structures, norm, evaluation):
    m = tfpes.metrics
    compiled = {
        "energy": {
            "energy_mae": m.EnergyMAE(),
            "energy_rmse": m.EnergyRMSE(),
            "total_energy_rmse": m.EnergyRMSE(per_atom=False),
            "standardized_energy_rmse": m.StandardizedRMSE(norm, "energy"),
        },
        "forces": {
            "force_mae": m.ForceMAE(),
            "force_rmse": m.ForceRMSE(),
            "standardized_force_rmse": m.StandardizedRMSE(norm, "forces"),
            "force_cosine": m.ForceCosine(),
            "max_force_error": m.MaxForceError(),
        },
        "virial": {
            "virial_mae": m.VirialMAE(),
            "virial_rmse": m.VirialRMSE(),
            "standardized_virial_rmse": m.StandardizedRMSE(norm, "virial"),
        },
    }
    copper, efwt = m.ForceRMSE(element="Cu"), m.EFwT()
    for inputs, targets in structures.batches(5, labels=KEYS):
        outputs = guess(inputs)
        efwt.update_state(targets, outputs)
        copper.update_state(targets["forces"], outputs["forces"])
        for key, named in compiled.items():
            for metric in named.values():
                metric.update_state(targets[key], outputs[key])
    assert evaluation.overall.efwt == float(efwt.result())
    np.testing.assert_allclose(
        evaluation.by_element[-1].force_rmse, copper.result(), rtol=1e-6
    )
    for named in compiled.values():
        for name, metric in named.items():
            found = getattr(evaluation.overall, name)
            np.testing.assert_allclose(found, metric.result(), rtol=1e-6, err_msg=name)


def test_nan_predictions_show(structures, norm):
    def broken(inputs):
        outputs = guess(inputs)
        copper = np.asarray(inputs["atomic_numbers"]) == 29
        forces = np.where(copper[:, None], np.nan, outputs["forces"])
        return {**outputs, "forces": tf.constant(forces)}

    found = tfpes.evaluate(broken, structures, normalization=norm)
    rows = {row.name: row for row in found.by_element}
    for name in ("force_mae", "force_rmse", "force_cosine", "max_force_error"):
        assert np.isnan(getattr(rows["Cu"], name))
        assert np.isnan(getattr(found.overall, name))
        assert np.isfinite(getattr(rows["H"], name))
    assert rows["Cu"].efwt == 0.0
    assert found.as_dict()["overall"]["force_rmse"] is None


# -- models and data of many kinds ----------------------------------------------------


def test_without_normalization(structures):
    found = tfpes.evaluate(guess, structures).overall
    for name, value in dataclasses.asdict(found).items():
        assert (value is None) == name.startswith("standardized"), name


def test_statistics_of_some_labels_only(structures):
    norm = PESNormalization(
        energy_mean=ATOMIC, energy_variance=dict.fromkeys(ATOMIC, 1.0)
    )
    found = tfpes.evaluate(guess, structures, normalization=norm).overall
    assert found.standardized_energy_rmse is not None
    assert found.standardized_force_rmse is None
    assert found.standardized_virial_rmse is None


@pytest.mark.parametrize("keys", [("energy",), ("forces",), ("virial",)])
def test_datasets_with_one_label(structures, norm, evaluation, keys):
    found = tfpes.evaluate(guess, structures.batches(5, labels=keys)).overall
    whole = evaluation.overall
    stem = keys[0].removesuffix("s")
    assert (found.structures, found.atoms) == (whole.structures, whole.atoms)
    for field in dataclasses.fields(Errors)[4:]:
        value = getattr(found, field.name)
        if field.name.startswith("standardized") or stem not in field.name:
            assert value is None, field.name
        else:
            np.testing.assert_allclose(value, getattr(whole, field.name), rtol=1e-6)


def test_model_without_virials(structures, evaluation):
    def short(inputs):
        outputs = guess(inputs)
        return {key: outputs[key][..., None] for key in ("energy", "forces")}

    found = tfpes.evaluate(short, structures).overall
    assert found.virial_rmse is None
    assert found.energy_rmse == evaluation.overall.energy_rmse


def test_predictions_in_half_precision(structures, evaluation):
    def coarse(inputs):
        outputs = guess(inputs)
        return {**outputs, "forces": tf.cast(outputs["forces"], tf.bfloat16)}

    found = tfpes.evaluate(coarse, structures).overall
    np.testing.assert_allclose(
        found.force_rmse, evaluation.overall.force_rmse, rtol=1e-2
    )


def test_third_element_and_ragged_batches(structures, evaluation):
    # Without padding, each batch of another shape, with weights that are not used.
    def batches():
        for part in np.array_split(np.arange(len(structures)), 4):
            for inputs, targets in structures[part].batches(len(part), labels=KEYS):
                kept = inputs["atomic_numbers"] > 0
                counts = int(inputs["cell"].shape[0]) - 1
                inputs = {
                    **{k: inputs[k][kept] for k in
                       ("positions", "atomic_numbers", "structure_index")},
                    "cell": inputs["cell"][:counts],
                }  # fmt: skip
                targets = {
                    key: value[kept] if key == "forces" else value[:counts]
                    for key, value in targets.items()
                }
                yield inputs, targets, {"energy": np.zeros(counts)}

    found = tfpes.evaluate(guess, batches())
    assert_equal(found.overall, tfpes.evaluate(guess, structures).overall)


@pytest.mark.slow
def test_potential(trained):
    model, structures = trained.model, trained.structures
    found = tfpes.evaluate(model, structures, batch_size=4)
    predictions = predict(model, structures, 4)
    error = (predictions.energy - structures.energy) / structures.num_atoms
    root = np.sqrt(np.mean(error**2))
    np.testing.assert_allclose(found.overall.energy_rmse, root, rtol=1e-9)
    assert found.overall.standardized_force_rmse is not None
    assert found.overall.virial_rmse is None


# -- bad input ------------------------------------------------------------------------


def test_without_labels(frames, structures):
    bare = [Atoms(atoms.numbers, atoms.positions) for atoms in frames]
    bare = tfpes.data.read(bare, 4.0, energy_key=None, verbose=False)
    with pytest.raises(ValueError, match="26 structures without an energy, force"):
        tfpes.evaluate(guess, bare)
    with pytest.raises(ValueError, match=r"repeated for ever. Leave `repeat\(\)` out"):
        tfpes.evaluate(guess, structures.batches(5).repeat())
    with pytest.raises(ValueError, match="an empty dataset"):
        tfpes.evaluate(guess, structures.batches(5).take(0))
    with pytest.raises(ValueError, match=r"takes batches `\(inputs, targets\)`"):
        tfpes.evaluate(guess, structures.batches(5).map(lambda x, y: x))
    with pytest.raises(ValueError, match=r"needs targets .* Received: \[\]"):
        tfpes.evaluate(guess, structures.batches(5, labels=()))


@pytest.mark.parametrize("data", ["structures", "batches"])
def test_wrong_outputs(structures, data):
    data = structures if data == "structures" else structures.batches(5)
    with pytest.raises(ValueError, match=r"must return a dict .*EagerTensor"):
        tfpes.evaluate(lambda inputs: guess(inputs)["energy"], data)
    with pytest.raises(ValueError, match=r"must return a dict .*\['E'\]"):
        tfpes.evaluate(lambda inputs: {"E": guess(inputs)["energy"]}, data)
    with pytest.raises(ValueError, match="must be energies"):
        tfpes.evaluate(
            lambda inputs: {**guess(inputs), "energy": guess(inputs)["forces"]}, data
        )


@pytest.mark.parametrize("value", [None, "-1.0", [[1.0], [2.0, 3.0]], True, 1 + 2j])
def test_outputs_that_are_no_numbers(structures, value):
    with pytest.raises(TypeError, match="must be a tensor of real numbers"):
        tfpes.evaluate(lambda inputs: {**guess(inputs), "energy": value}, structures)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_names_are_no_formulas_for_a_spreadsheet(evaluation, tmp_path, name):
    row = dataclasses.replace(evaluation.overall, name=name)
    found = dataclasses.replace(evaluation, by_config_type=(row,))
    found.to_csv(tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert last["name"] == f"'{name}"


def test_unknown_elements_and_other_cutoffs(structures, trained):
    with pytest.raises(ValueError, match=r"cutoff of the model, 4 Å. Received: 5 Å"):
        tfpes.evaluate(
            trained.model, tfpes.data.read([Atoms("Cu")], 5, energy_key=None)
        )
    with pytest.raises(ValueError, match=r"was trained on Cu, Au\. Received: "):
        tfpes.evaluate(trained.model, structures)
    with pytest.raises(ValueError, match=r"was trained on Cu, Au\. Received: "):
        tfpes.evaluate(trained.model, structures.batches(5))


# -- what is printed and written ------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100])
def test_table(evaluation, width):
    console = Console(width=width, record=True)
    with console.capture() as capture:
        console.print(evaluation.table("Errors of a guess"))
    lines = capture.get().splitlines()
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    assert "Errors of a guess" in text
    # Markup in names is text.
    for name in ("5-16", "Cu", "[C2H6]", "crystal", "(none)"):
        assert any(line.startswith(name) for line in lines), name
    assert next(line.split()[2] for line in lines if line.startswith("isol")) == "1"
    row = next(line.split() for line in lines if line.startswith("all"))
    overall = evaluation.overall
    assert row[1:3] == ["25", f"{1e3 * overall.energy_mae:.1f}"]
    assert row[-1] == f"{overall.efwt:.1%}"
    virials = text[text.index("Virials") :]
    row = next(line.split() for line in virials.splitlines() if line.startswith("all"))
    assert row[2] == f"{1e3 * overall.virial_mae:.0f}"


def test_no_digit_is_lost_in_80_columns(evaluation):
    """Of errors as those of a model that learned nothing of a large set."""
    values = {
        name: 12345.6 * (1 + number)
        for number, name in enumerate(dataclasses.asdict(evaluation.overall))
        if name not in ("name", "structures", "atoms", "energies")
    }
    row = dataclasses.replace(evaluation.overall, structures=1234567, **values)
    groups = {"overall": (row,), "by_config_type": (row,)}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(ErrorTable(groups))
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for name in ("energy_rmse", "force_rmse", "virial_mae"):
        assert f" {1e3 * values[name]:.0f}" in text


@pytest.mark.parametrize(
    ("energy", "forces", "words"),
    [
        (0.95, 0.99, ["energies (E' RMSE 0.95", " and of forces (error 99% of"]),
        (7.0, 0.3, ["of energies (E' RMSE 7.00"]),
        (None, 1.02, ["of forces (error 102% of their RMS"]),
        (0.5, 0.5, []),
        (None, None, []),
        (float("nan"), float("nan"), []),
    ],
)
def test_nothing_learned(energy, forces, words):
    row = Errors(
        "all", 9, 90, 9, standardized_energy_rmse=energy, relative_force_rmse=forces
    )
    said = row.nothing_learned
    assert bool(said) == bool(words)
    for text in words:
        assert text in said
    assert said.count(". ") == 0


def test_long_tables_are_cut(structures):
    many = structures[np.r_[0 : len(structures), 0 : len(structures)]]
    many = dataclasses.replace(many, config_type=np.arange(len(many)).astype(str))
    found = tfpes.evaluate(guess, many)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(found.table())
    assert "and 20 more" in capture.get()
    assert len(found.by_config_type) == 50


def test_json_and_csv(evaluation, tmp_path):
    evaluation.to_json(tmp_path / "errors.json")
    found = json.loads((tmp_path / "errors.json").read_text())
    assert found == evaluation.as_dict()
    assert found["overall"] == dataclasses.asdict(evaluation.overall)
    assert [row["name"] for row in found["by_element"]] == ["H", "C", "O", "Cu"]
    evaluation.to_csv(tmp_path / "errors.csv")
    with (tmp_path / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {"overall": 1, "isolated": 1, "size": 3, "element": 4, "config_type": 4}
    groups = [group for group, number in numbers.items() for _ in range(number)]
    assert [row["group"] for row in rows] == groups
    everything = [row for group in evaluation.groups.values() for row in group]
    for row, errors in zip(rows, everything, strict=True):
        for name, value in dataclasses.asdict(errors).items():
            assert row[name] == ("" if value is None else str(value))


@pytest.mark.parametrize("bare", [False, True])
def test_parity_plot(evaluation, structures, tmp_path, bare):
    if bare:
        dataset = structures.batches(5, labels=("forces",))
        evaluation = tfpes.evaluate(guess, dataset)
    evaluation.plot_parity(tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 5000
    assert [path.name for path in tmp_path.iterdir()] == ["parity.png"]


def test_size_bins():
    sizes = np.array([1, 3, 17, 64, 65])
    assert size_bins(sizes) == [(1, 1), (2, 4), (17, 64), (65, 256)]
