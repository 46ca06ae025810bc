import keras
import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.build import bulk, fcc100
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress

from tfpes import Calculator
from tfpes.data.labels import has_volume
from tfpes.models.radial import edge_vectors


@pytest.fixture(scope="module")
def shared_calculator(trained):
    return Calculator(trained.saved_model)


@pytest.fixture
def calculator(shared_calculator):
    """Return the calculator of the module without results."""
    shared_calculator.reset()
    return shared_calculator


@pytest.fixture
def crystal(crystals):
    atoms = crystals[0].copy()
    atoms.cell[[0, 2], [1, 0]] += [0.3, 0.2]
    return atoms


def reference(model, graph, atoms):
    inputs = graph([atoms], dtype="float32")
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    return {k: v.numpy() for k, v in model.evaluate_inputs(inputs, True).items()}


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Cu", a=3.7),
        fcc100("Au", (1, 1, 2), vacuum=4.0),
        Atoms("CuAu", [[0, 0, 0], [1.5, 1.5, 1]]),
        Atoms("Cu"),
        Atoms("Cu2", [[100, 0, 0], [102.2, 0, 0]], cell=[1, 1, 1]),
    ],
    ids=["crystal", "slab", "molecule", "atom", "far"],
)
def test_values_are_those_of_the_model(trained, graph, calculator, atoms):
    atoms.calc = calculator
    moved = atoms.copy()
    moved.positions -= moved.positions.mean(axis=0)
    expected = reference(trained.model, graph, moved)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert isinstance(energy, float)
    assert forces.dtype == np.float64
    np.testing.assert_allclose(energy, expected["energy"][0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(forces, expected["forces"], rtol=0, atol=1e-5)
    assert atoms.get_potential_energy(force_consistent=True) == energy


def test_stress(calculator, crystal):
    crystal.calc = calculator
    stress = crystal.get_stress()
    # ASE's own differences of the energy with strain: sign, order and volume.
    numerical = calculate_numerical_stress(crystal, eps=3e-3)
    assert stress.shape == (6,)
    assert np.abs(stress).max() > 1e-3
    bound = 0.01 * np.abs(stress).max()
    np.testing.assert_allclose(stress, numerical, rtol=0, atol=bound)


@pytest.mark.parametrize("pbc", [False, [True, True, False]])
def test_no_stress_without_a_volume(calculator, crystal, pbc):
    crystal.cell[2] = 0  # a slab may be without a third vector
    crystal.pbc = pbc
    crystal.calc = calculator
    crystal.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="stress"):
        crystal.get_stress()


def test_moving_atoms_compile_once(trained, crystal):
    calculator = Calculator(trained.saved_model)
    atoms = crystal * (2, 2, 2)
    atoms.calc = calculator
    rng = np.random.default_rng(0)
    start = atoms.positions.copy()
    sizes, edges, run = set(), set(), calculator._run

    def watch(inputs):
        sizes.add(tuple(value.shape for value in inputs.values()))
        edges.add((inputs["atomic_numbers"][inputs["edge_index"][0]] > 0).sum())
        return run(inputs)

    calculator._run = watch
    for _ in range(20):
        atoms.positions = start + 0.08 * rng.normal(size=start.shape)
        atoms.get_potential_energy()
    assert len(edges) > 5
    assert len(sizes) == 1
    assert run.experimental_get_tracing_count() == 1


def test_padding_of_edges_grows_without_changing_results(calculator, trained, graph):
    loose, dense = bulk("Cu", a=4.2), bulk("Cu", a=3.2)
    for atoms in (loose, dense, loose):
        atoms.calc = calculator
        expected = reference(trained.model, graph, atoms)
        calculator.reset()
        assert abs(atoms.get_potential_energy() - expected["energy"][0]) < 1e-6
    for atoms in (dense, dense * (5, 1, 1), dense):
        inputs = calculator._inputs(atoms)
        needed = len(graph([atoms])["edge_shift"])
        assert needed <= inputs["edge_shift"].shape[0] <= 1.5 * needed + 16
        assert len(atoms) < inputs["positions"].shape[0] <= 1.5 * len(atoms) + 16


def test_padding_edges_are_beyond_the_cutoff(calculator):
    calculator.calculate(bulk("Cu", a=3.2))
    inputs = calculator._inputs(Atoms("Cu2", [[0, 0, 0], [0, 0, 2.0]]))
    vectors = edge_vectors(inputs).numpy()
    distance = np.sort(np.linalg.norm(vectors, axis=1))
    assert len(distance) > 2
    np.testing.assert_allclose(distance[:2], 2.0)
    assert (distance[2:] > calculator.cutoff).all()


def test_results_follow_the_atoms(calculator, crystal):
    crystal.calc = calculator
    first = crystal.get_potential_energy()
    crystal.positions[0] += 0.1
    second = crystal.get_potential_energy()
    assert first != second
    crystal.numbers[0] = 29 + 79 - crystal.numbers[0]
    assert crystal.get_potential_energy() != second


def test_properties(calculator):
    assert calculator.cutoff == 4.0
    assert calculator.elements == ("Cu", "Au")
    assert set(calculator.implemented_properties) == {
        "energy", "free_energy", "forces", "stress",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["keras_file", "model", "run"])
def test_forms_of_the_model(trained, calculator, crystal, form):
    source = trained.keras_file.parent if form == "run" else getattr(trained, form)
    other = Calculator(source)
    for atoms in (crystal, crystal.copy()):
        atoms.calc = calculator if atoms is crystal else other
        forces = atoms.get_forces()
    np.testing.assert_allclose(forces, crystal.get_forces(), rtol=0, atol=1e-5)


# -- many structures ----------------------------------------------------------------


@pytest.mark.slow
def test_predict(calculator, crystals, crystal):
    images = [*crystals, Atoms("Cu"), Atoms("CuAu", [[0, 0, 0], [1.5, 1, 1]]), crystal]
    results = calculator.predict(iter(images), batch_size=4)
    assert len(results) == len(images)
    for atoms, result in zip(images, results, strict=True):
        calculator.calculate(atoms)
        expected = calculator.results
        assert result.keys() == expected.keys()
        assert ("stress" in result) == has_volume(atoms)
        assert isinstance(result["energy"], float)
        assert result["free_energy"] == result["energy"]
        for name, bound in (("energy", 1e-6), ("forces", 1e-5), ("stress", 1e-6)):
            if name in expected:
                np.testing.assert_allclose(
                    result[name], expected[name], rtol=0, atol=bound
                )


def test_predict_leaves_the_structures_and_the_calculator_alone(calculator, crystal):
    crystal.calc = calculator
    energy = crystal.get_potential_energy()
    other = crystal * (2, 1, 1)
    calculator.predict([other])
    assert other.calc is None
    assert calculator.check_state(crystal) == []
    assert crystal.get_potential_energy() == energy


def test_predict_names_the_bad_structure(calculator, crystals):
    with pytest.raises(ValueError, match=r"Received: H in 1 of 2 .* structure 1\."):
        calculator.predict([crystals[0], Atoms("H")])
    far = Atoms("Cu2", [[0, 0, 0], [np.nan, 0, 0]])
    with pytest.raises(ValueError, match=r"must be finite\. In: structure 2\."):
        calculator.predict([*crystals[:2], far])
    with pytest.raises(ValueError, match="at least one structure"):
        calculator.predict([])


# -- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Cu2"), r"at least 0\.1 Å apart"),
        (Atoms("Cu", [[np.nan, 0, 0]]), "must be finite"),
        (Atoms(), r"at least one atom\. Received: none"),
        (Atoms("X"), r"trained on Cu, Au\. Received: X\."),
        (Atoms("CuHO", [[0, 0, 0], [2, 0, 0], [4, 0, 0]]), r"Received: H, O\. Leave"),
    ],
)
def test_bad_atoms(calculator, atoms, message):
    with pytest.raises(ValueError, match=message):
        calculator.calculate(atoms)


def test_failure_leaves_no_results(calculator, crystal):
    crystal.calc = calculator
    crystal.get_potential_energy()
    crystal.positions[0] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="must be finite"):
            crystal.get_potential_energy()


def test_numbers_that_are_not_finite(trained, crystal):
    values = [value.numpy() for value in trained.model.network.weights]
    config = keras.saving.serialize_keras_object(trained.model)
    model = keras.saving.deserialize_keras_object(config)
    model.build()
    model.network.set_weights([np.nan * value for value in values])
    crystal.calc = Calculator(model)
    with pytest.raises(FloatingPointError, match="Energies and forces must be finite"):
        crystal.get_forces()


@pytest.mark.parametrize("skin", [-0.1, np.nan, np.inf])
def test_bad_skin(trained, skin):
    with pytest.raises(ValueError, match="`skin` must be a number of Å"):
        Calculator(trained.model, skin=skin)


class Springs(keras.Model):
    """Σ r_ij²/4 over the edges; outputs as a user's model may have them."""

    def __init__(self, *keys):
        super().__init__()
        self.keys = keys

    def call(self, inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs["positions"])
            squares = tf.reduce_sum(edge_vectors(inputs) ** 2, axis=1)
            local = tf.gather(inputs["structure_index"], inputs["edge_index"][0])
            rows = tf.shape(inputs["cell"])[0]
            energy = tf.math.unsorted_segment_sum(squares / 4, local, rows)
        outputs = {
            "energy": energy[:, None],
            "forces": -tape.gradient(energy, inputs["positions"]),
        }
        return {key: outputs[key] for key in self.keys}


def test_any_keras_model():
    calculator = Calculator(Springs("energy", "forces"), cutoff=2.5)
    assert calculator.elements == ()
    dimer = Atoms("HO", [[0, 0, 0], [2.0, 0, 0]], cell=[9, 9, 9], pbc=True)
    dimer.calc = calculator
    assert dimer.get_potential_energy() == pytest.approx(2.0)  # two edges of 2 Å
    np.testing.assert_allclose(dimer.get_forces()[:, 0], [2.0, -2.0], rtol=1e-6)
    with pytest.raises(PropertyNotImplementedError):
        dimer.get_stress()
    (found,) = calculator.predict([dimer])
    assert found["energy"] == pytest.approx(2.0)
    assert "stress" not in found


def test_keras_models_that_cannot_be(trained):
    with pytest.raises(ValueError, match=r"Received: a Springs and `cutoff=None`\. P"):
        Calculator(Springs("energy"))
    with pytest.raises(ValueError, match=r"`cutoff=9`\. Leave it out"):
        Calculator(trained.model, cutoff=9.0)
    hydrogen = Atoms("H", calculator=Calculator(Springs("energy"), cutoff=2.5))
    with pytest.raises(
        ValueError, match=r"Received: \['energy'\]\. Return the missing"
    ):
        hydrogen.get_potential_energy()
