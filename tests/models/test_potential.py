"""Energies, forces and virials of `Potential`, in float64 where that is exact.

Physical properties are tested with each network.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.build import bulk, make_supercell, molecule

from tfpes.layers import PESNormalization
from tfpes.models import PaiNN, Potential, SchNet, edge_vectors
from tfpes.models.radial import safe_norm

CUTOFF = 4.0
each_network = pytest.mark.parametrize("network", [SchNet, PaiNN])


def make_norm(mean=0.0, kappa2=0.01):
    return PESNormalization(
        energy_mean=np.full(119, float(mean)),
        energy_variance=np.linspace(0.5, 2.0, 119),
        collective_variance=kappa2,
        force_scale=np.full(119, 1.5),
    )


def make_potential(
    dtype="float64", norm=None, network=SchNet, cutoff_function="cosine", **options
):
    keras.utils.set_random_seed(3)
    network = network(
        cutoff=CUTOFF,
        channels=8,
        # Vector features need a second block to propagate.
        blocks=1 if network is SchNet else 2,
        basis_size=9,
        cutoff_function=cutoff_function,
        dtype=dtype,
    )
    return Potential(network, norm or make_norm(), dtype=dtype, **options)


@pytest.fixture(scope="module", params=[SchNet, PaiNN], ids=["SchNet", "PaiNN"])
def potential(request):
    return make_potential(network=request.param, compute_virial=True)


@pytest.fixture(scope="module")
def evaluate(potential, graph):
    """Return a function from atoms to the outputs for them, as arrays."""

    def run(*frames):
        outputs = potential(graph(frames))
        return {name: value.numpy() for name, value in outputs.items()}

    return run


@pytest.fixture(scope="module")
def crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.4)
    atoms.rattle(0.2, rng=np.random.default_rng(0))
    atoms.cell[[0, 1], [1, 2]] += [0.1, 0.2]
    return atoms


@pytest.fixture(scope="module")
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, rng=np.random.default_rng(1))
    return atoms


def moved(atoms, change):
    copy = atoms.copy()
    copy.positions += change
    return copy


# -- derivatives --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", ["crystal", "ethanol"])
def test_forces_are_minus_the_gradient(case, evaluate, tolerance, request):
    atoms = request.getfixturevalue(case)
    forces = evaluate(atoms)["forces"]
    expected, step = np.zeros_like(forces), 1e-4
    for place in np.ndindex(forces.shape):
        change = np.zeros_like(forces)
        change[place] = step
        frames = moved(atoms, change), moved(atoms, -change)
        upper, lower = evaluate(*frames)["energy"]
        expected[place] = -(upper - lower) / (2 * step)
    bound = tolerance.differences * np.abs(forces).max()
    np.testing.assert_allclose(forces, expected, rtol=0, atol=bound)
    assert np.abs(forces).max() > 1e-5


@pytest.mark.parametrize("case", ["crystal", "ethanol"])
def test_virial_is_minus_the_strain_derivative(case, evaluate, tolerance, request):
    atoms = request.getfixturevalue(case)
    virial = evaluate(atoms)["virial"][0]
    np.testing.assert_array_equal(virial, virial.T)
    assert np.abs(virial).max() > 1e-3
    step = 3e-5
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strained = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            copy = atoms.copy()
            copy.set_cell(atoms.cell.array @ (np.eye(3) + strain))
            copy.positions = atoms.positions @ (np.eye(3) + strain)
            strained.append(copy)
        upper, lower = evaluate(*strained)["energy"]
        expected = -(upper - lower) / (2 * step)
        bound = tolerance.differences * np.abs(virial).max()
        assert abs(virial[a, b] - expected) < bound


# -- invariances --------------------------------------------------------------------


def test_translation(evaluate, crystal, ethanol, close):
    for atoms in (crystal, ethanol):
        here, there = evaluate(atoms), evaluate(moved(atoms, [5.0, -3.0, 100.0]))
        for name in ("energy", "forces", "virial"):
            close(there[name], here[name], "network64")
        close(here["forces"].sum(axis=0), np.zeros(3), "network64", scale=1)


def test_rotation(evaluate, crystal, ethanol, close):
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    for atoms in (crystal, ethanol):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ rotation)
        turned.positions = atoms.positions @ rotation
        here, there = evaluate(atoms), evaluate(turned)
        close(there["energy"], here["energy"], "network64")
        close(there["forces"], here["forces"] @ rotation, "network64")
        expected = rotation.T @ here["virial"][0] @ rotation
        close(there["virial"][0], expected, "network64")


def test_permutation(evaluate, ethanol, close):
    order = np.random.default_rng(0).permutation(len(ethanol))
    here, there = evaluate(ethanol), evaluate(ethanol[order])
    close(there["energy"], here["energy"])
    close(there["forces"], here["forces"][order], "network64")


def test_wrapping_into_the_cell(evaluate, crystal, close):
    copy = moved(crystal, crystal.cell.array[[0, 1]])
    here, there = evaluate(crystal), evaluate(copy)
    close(there["energy"], here["energy"], "network64")
    close(there["forces"], here["forces"], "network64")


@pytest.mark.parametrize("case", ["crystal", "ethanol"])
def test_structures_of_a_batch_do_not_see_each_other(
    case, evaluate, crystal, ethanol, close, request
):
    atoms = request.getfixturevalue(case)
    alone, together = evaluate(atoms), evaluate(crystal, ethanol, bulk("Cu"))
    number = ("crystal", "ethanol").index(case)
    start = number * len(crystal)
    close(together["energy"][number], alone["energy"][0])
    close(together["virial"][number], alone["virial"][0], "network64")
    rows = slice(start, start + len(atoms))
    close(together["forces"][rows], alone["forces"], "network64")


def test_supercell(evaluate, crystal, close):
    double = make_supercell(crystal, [[2, 0, 0], [0, 1, 0], [1, 0, 1]])
    one, two = evaluate(crystal), evaluate(double)
    close(two["energy"], 2 * one["energy"])
    close(two["virial"], 2 * one["virial"], "network64")


@each_network
@pytest.mark.parametrize("cutoff_function", ["cosine", "polynomial"])
def test_continuity_at_the_cutoff(graph, cutoff_function, network):
    model = make_potential(network=network, cutoff_function=cutoff_function)

    def pull(distance):
        atoms = Atoms("OCO", [[0, 0, 0], [0, 1.2, 0], [distance, 0, 0]])
        outputs = model(graph([atoms]))
        return outputs["energy"].numpy()[0], outputs["forces"].numpy()

    just = 1e-6
    energy_in, forces_in = pull(CUTOFF - just)
    energy_out, forces_out = pull(CUTOFF + just)
    typical = np.abs(pull(0.7 * CUTOFF)[1][2]).max()
    assert typical > 1e-4
    assert abs(energy_in - energy_out) < 1e-9
    assert np.abs(forces_in - forces_out).max() < 1e-5 * typical
    np.testing.assert_array_equal(pull(CUTOFF + 0.1)[1][2], np.zeros(3))


# -- energies -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_energy_is_baseline_plus_scaled_local_energies(frames, graph, dtype, close):
    norm = make_norm(mean=-100.0)
    model = make_potential(dtype, norm)
    inputs = graph(frames, CUTOFF, dtype)
    outputs = model(inputs)
    assert set(outputs) == {"energy", "forces"}
    assert outputs["energy"].dtype == tf.float64
    assert outputs["forces"].dtype == dtype
    local = model.network(inputs).numpy().astype(float)
    expected = np.zeros(len(frames))
    for s, z, e in zip(
        inputs["structure_index"], inputs["atomic_numbers"], local, strict=True
    ):
        variance = norm.energy_variance.numpy()[z] + 0.01
        expected[s] += -100.0 + np.sqrt(variance) * e
    close(outputs["energy"], expected)


def test_isolated_atom(evaluate, potential, graph, close):
    inputs = graph([Atoms("O")])
    assert inputs["edge_index"].shape == (2, 0)
    outputs = potential(inputs)
    local = potential.network(inputs).numpy()
    scale = np.sqrt(potential.normalization.energy_variance.numpy()[8] + 0.01)
    close(outputs["energy"], scale * local)
    np.testing.assert_array_equal(outputs["forces"], np.zeros((1, 3)))
    np.testing.assert_array_equal(outputs["virial"], np.zeros((1, 3, 3)))


def test_large_baselines_keep_small_differences(graph, ethanol):
    small = make_potential("float32", make_norm(0.0))
    large = make_potential("float32", make_norm(-1e6))
    for step in (0.0, 1e-3):
        inputs = graph([moved(ethanol, step * np.eye(9, 3))], dtype="float32")
        difference = large(inputs)["energy"] + 9e6 - small(inputs)["energy"]
        # The rounding of float64 at 9e6.
        assert abs(difference.numpy()[0]) < 1e-8


def test_reference_energies(graph, ethanol, close):
    norm = make_norm(mean=-100.0)
    plain = make_potential(norm=norm)
    given = make_potential(norm=norm, reference_energies={"H": -13.0, 6: -1000.0})
    inputs = graph([ethanol, Atoms("O")])
    difference = given(inputs)["energy"] - plain(inputs)["energy"]
    close(difference, [6 * 87.0 + 2 * -900.0, 0.0], "network64")
    np.testing.assert_array_equal(given(inputs)["forces"], plain(inputs)["forces"])


def test_statistics_are_read_when_they_are_used(graph, ethanol, close):
    norm = make_norm()
    model = make_potential(norm=norm)
    inputs = graph([ethanol])
    traced = tf.function(lambda: model(inputs)["energy"])
    before = traced().numpy()
    norm.energy_mean.assign(np.full(119, -2.0))
    close(traced(), before - 18.0, "network64")


# -- batches ------------------------------------------------------------------------


def strip(inputs):
    """Remove the padding of a batch."""
    atoms = inputs["atomic_numbers"] > 0
    edges = atoms[inputs["edge_index"][0]]
    count = inputs["structure_index"][atoms].max() + 1
    return {
        **{k: inputs[k][atoms] for k in ("positions", "atomic_numbers")},
        "structure_index": inputs["structure_index"][atoms],
        "cell": inputs["cell"][:count],
        "edge_index": inputs["edge_index"][:, edges],
        "edge_shift": inputs["edge_shift"][edges],
    }


@pytest.mark.slow
@each_network
@pytest.mark.parametrize(
    ("dtype", "kind"), [("float32", "network32"), ("float64", "float64")]
)
def test_padding_changes_nothing(structures, dtype, kind, close, network):
    model = make_potential(dtype, network=network, compute_virial=True)
    for inputs, _ in structures.batches(4).as_numpy_iterator():
        padded, plain = model(inputs), model(strip(inputs))
        atoms, count = len(plain["forces"]), len(plain["energy"])
        close(padded["energy"][:count], plain["energy"], kind)
        close(padded["forces"][:atoms], plain["forces"], kind)
        close(padded["virial"][:count], plain["virial"], kind)
        for name in ("energy", "forces", "virial"):
            rest = padded[name][atoms if name == "forces" else count :]
            assert not np.asarray(rest).any()


@each_network
def test_batch_from_the_pipeline_equals_ase(structures, frames, graph, close, network):
    model = make_potential("float64", network=network)
    reference = model(graph(frames))["energy"].numpy()
    for inputs, targets in structures.batches(4).as_numpy_iterator():
        energies = targets["energy"][:, 0]
        found = model(inputs)["energy"].numpy()
        for energy, value in zip(energies, found, strict=True):
            if not np.isnan(energy):
                (number,) = np.flatnonzero(structures.energy == energy)
                # Positions went through float32.
                close(value, reference[number], "network32")


# -- other networks -----------------------------------------------------------------


class PairNetwork(keras.layers.Layer):
    """A user's own network, of the shape (A,) or (A, 1)."""

    def __init__(self, column=False, **kwargs):
        super().__init__(**kwargs)
        self.column = column

    def build(self, input_shape=None):
        self.strength = self.add_weight(shape=(), initializer="ones")
        self.built = True

    def call(self, inputs):
        i, j = inputs["edge_index"][0], inputs["edge_index"][1]
        vector = tf.gather(inputs["positions"], j) - tf.gather(inputs["positions"], i)
        pair = tf.exp(-tf.reduce_sum(vector**2, axis=1)) * self.strength
        local = tf.math.unsorted_segment_sum(
            pair, i, tf.shape(inputs["atomic_numbers"])[0]
        )
        return local[:, None] if self.column else local


@pytest.mark.parametrize("column", [False, True])
def test_network_of_a_user(column, graph, ethanol, close):
    # Without autocast a network gets geometry as it is, in `build` as well.
    network = PairNetwork(column, dtype="float64", autocast=False)
    model = Potential(network, make_norm(), dtype="float64")
    outputs = model(graph([ethanol], 20.0))
    scale = np.sqrt(np.linspace(0.5, 2.0, 119)[ethanol.numbers] + 0.01)
    energy, forces = 0.0, np.zeros((9, 3))
    for i in range(9):
        for j in range(9):
            vector = ethanol.positions[j] - ethanol.positions[i]
            pair = np.exp(-np.sum(vector**2)) * (i != j)
            energy += scale[i] * pair
            forces[j] += 2 * vector * pair * scale[i]
            forces[i] -= 2 * vector * pair * scale[i]
    close(outputs["energy"], [energy], "network64")
    close(outputs["forces"], forces, "network64")


class Pairs(keras.layers.Layer):
    """Half of each pair energy exp(-d) to its centre: geometry and nothing else."""

    cutoff = CUTOFF

    def call(self, inputs):
        energy = tf.exp(-safe_norm(edge_vectors(inputs)))
        atoms = tf.shape(inputs["positions"])[0]
        return tf.math.unsorted_segment_sum(energy, inputs["edge_index"][0], atoms)


def test_geometry_is_not_rounded_by_tensor_float_32(graph, crystal, monkeypatch, close):
    """A GPU rounds factors of products to 10 bits, forces of 5 eV/Å by 5 meV/Å."""
    used = []

    @tf.custom_gradient
    def rounded(x):
        bits = tf.bitcast(x, tf.int32)
        bits = tf.bitwise.bitwise_and(bits + 0x1000, ~0x1FFF)
        return tf.bitcast(bits, tf.float32), lambda upstream: upstream

    def emulate(product):
        def call(a, b, *arguments, **options):
            if a.dtype == tf.float32:
                used.append(product.__name__)
                a, b = rounded(a), rounded(b)
            return product(a, b, *arguments, **options)

        return call

    def run(network):
        keras.utils.set_random_seed(3)
        potential = Potential(network, make_norm(), compute_virial=True)
        outputs = potential(graph([crystal], dtype="float32"))
        return {name: value.numpy() for name, value in outputs.items()}

    exact = run(Pairs())
    for name in ("matmul", "tensordot", "einsum"):
        monkeypatch.setattr(tf, name, emulate(getattr(tf, name)))
    monkeypatch.setattr(tf.linalg, "matmul", tf.matmul)
    for name, value in run(Pairs()).items():
        close(value, exact[name], "float32")
    assert not used
    run(SchNet(CUTOFF, channels=4, blocks=1))
    assert used


def test_network_that_does_not_see_positions(graph, ethanol):
    class Constant(keras.layers.Layer):
        def call(self, inputs):
            return tf.ones(tf.shape(inputs["atomic_numbers"]))

    outputs = Potential(Constant(), make_norm())(graph([ethanol], dtype="float32"))
    np.testing.assert_array_equal(outputs["forces"], np.zeros((9, 3)))


class Local(keras.layers.Layer):
    """Has no weights before it is called; as many numbers per atom as asked for."""

    def __init__(self, columns=1):
        super().__init__()
        self.dense = keras.layers.Dense(columns)

    def call(self, inputs):
        return self.dense(tf.one_hot(inputs["atomic_numbers"], 119))


def test_all_weights_are_there_from_the_start(tmp_path):
    norm = make_norm()
    models = [Potential(Local(), norm) for _ in range(2)]
    models[0].save_weights(tmp_path / "a.weights.h5")
    models[1].load_weights(tmp_path / "a.weights.h5")
    for one, other in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_array_equal(one, other)
    assert models[0].network.dense.kernel.shape == (119, 1)


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (keras.layers.Dense(1), r"takes a dict of positions, .*Received: Dense"),
        (Local(columns=2), r"one number per atom.*Received: shape \(9, 2\) from Local"),
    ],
    ids=["dict", "columns"],
)
def test_network_of_something_else(network, match, graph, ethanol):
    with pytest.raises(ValueError, match=match):
        Potential(network, make_norm())(graph([ethanol], dtype="float32"))


# -- configuration ------------------------------------------------------------------


def test_config(graph, ethanol):
    model = make_potential(compute_virial=True, reference_energies={"H": -13.0})
    inputs = graph([ethanol])
    expected = model(inputs)
    copy = Potential.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    outputs = copy(inputs)
    assert set(outputs) == {"energy", "forces", "virial"}
    for name, value in outputs.items():
        np.testing.assert_array_equal(value, expected[name])


def test_weights_hold_the_statistics():
    model = make_potential()
    names = {weight.name for weight in model.weights}
    assert {"energy_mean", "energy_variance", "collective_variance"} <= names
    trainable = {weight.name for weight in model.trainable_weights}
    assert not trainable & {"energy_mean", "energy_variance", "seen", "force_scale"}


def test_element_never_seen(graph, ethanol):
    norm = PESNormalization(energy_mean={"H": -1.0}, energy_variance={"H": 1.0})
    with pytest.raises(ValueError, match=r"Received: structure 1 holds C\. Adapt"):
        make_potential(norm=norm)(graph([Atoms("H"), ethanol]))


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_element_never_seen_where_nothing_can_raise(graph, ethanol, jit_compile):
    norm = PESNormalization(
        energy_mean={"H": -1.0, "C": 0, "O": 0},
        energy_variance={"H": 1.0, "C": 1, "O": 1},
    )
    strange = Atoms("SiH", [[0, 0, 0], [0, 0, 1.5]])
    model = make_potential(norm=norm, compute_virial=True)
    inputs = graph([ethanol, strange])
    run = tf.function(model, jit_compile=jit_compile)
    found = {name: value.numpy() for name, value in run(inputs).items()}
    alone = model(graph([ethanol]))
    assert np.isnan(found["energy"]).tolist() == [False, True]
    assert np.isnan(found["forces"][-2:]).all()
    assert np.isnan(found["virial"][1]).all()
    np.testing.assert_allclose(found["energy"][:1], alone["energy"], rtol=1e-6)
    np.testing.assert_allclose(found["forces"][:-2], alone["forces"], atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_statistics_are_needed(graph, ethanol, compiled):
    model = make_potential(norm=PESNormalization())
    run = tf.function(model) if compiled else model
    with pytest.raises(RuntimeError, match="needs statistics before it is used"):
        run(graph([ethanol]))


def test_unknown_reference_element():
    with pytest.raises(ValueError, match=r"Keys of `reference_energies`.*'Xy'"):
        make_potential(reference_energies={"Xy": 1.0})
