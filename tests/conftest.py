"""Fixtures of the whole suite: tolerances, structures, naive references."""

import dataclasses
import functools
import importlib.metadata
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As the command does: memory is kept from step to step, programs from run to run.
# Workers and subprocesses inherit both.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
if "TF_XLA_FLAGS" not in os.environ:
    programs = tempfile.TemporaryDirectory()
    flag = f"--tf_xla_persistent_cache_directory={programs.name}"
    os.environ["TF_XLA_FLAGS"] = flag
# Programs of a few steps: quickly compiled rather than quickly run. A release that does
# not know a flag ends with it.
if importlib.metadata.version("tensorflow").startswith("2.21."):
    quick = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", quick)

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "tfpes", derandomize=True, deadline=None, max_examples=50
)
hypothesis.settings.load_profile("tfpes")

# What takes longest goes first, so that all workers of pytest-xdist end together.
LONGEST = ("test_documents", "test_resume", "test_examples", "test_train")


def pytest_configure(config):
    # Otherwise, files with few tests come last, however long these are.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONGEST)


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
CUTOFF = 4.0


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """Relative tolerances by the arithmetic that is tested."""

    # A few operations in float64; in float32.
    float64: float = 1e-12
    float32: float = 1e-6
    # A whole network in float64; in float32, energies and derivatives.
    network64: float = 1e-10
    network32: float = 1e-5
    # Central differences in float64.
    differences: float = 1e-6


@pytest.fixture(scope="session")
def tolerance():
    return Tolerance()


@pytest.fixture(scope="session")
def close(tolerance):
    """Return an assertion of equality to a named relative tolerance.

    The tolerance is relative to the largest absolute value expected.
    """

    def check(actual, expected, kind="float64", scale=None):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        if scale is None:
            scale = np.nanmax(np.abs(expected), initial=0.0)
        bound = getattr(tolerance, kind) * scale
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)

    return check


@pytest.fixture(scope="session")
def shared():
    """Return a function that reads a shared data set, once."""
    from tfpes.data import read

    @functools.cache
    def load(name):
        path = SHARED_DATA / f"{name}.xyz"
        if not path.exists():
            pytest.skip(f"{path} is absent: the shared data sets are not distributed")
        return read(path, 5.0, verbose=False)

    return load


@pytest.fixture(scope="session")
def labelled():
    """Return a function that attaches labels to atoms as ASE's readers do."""
    from ase.calculators.singlepoint import SinglePointCalculator

    def attach(atoms, **results):
        atoms = atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    return attach


@pytest.fixture(scope="session")
def frames(labelled):
    """Return structures of many kinds; the labels are random numbers."""
    from ase import Atoms
    from ase.build import bulk, fcc100, molecule

    rng = np.random.default_rng(7)
    cases = [
        *(molecule(name) for name in ("H2O", "CH4", "C2H6", "CO2", "CH3CH2OH")),
        Atoms("H"),
        Atoms("O", positions=[[3.0, 1.0, 2.0]]),
        # Cells smaller than the cutoff, also of one atom and skewed.
        bulk("Cu"),
        bulk("Fe", cubic=True),
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("Ti"),
        bulk("Cu", cubic=True) * (2, 2, 1),
        fcc100("Al", (2, 2, 2), vacuum=5.0),
        # Periodic along a wire, with no lattice vector across it.
        Atoms("CO", [[0, 0, 0], [0, 0.3, 1.2]], cell=[0, 0, 2.5], pbc=[0, 0, 1]),
        Atoms("Ar2", [[0, 0, 0], [30.0, 0, 0]]),
    ]
    result = []
    for atoms in cases:
        count = len(atoms)
        atoms.rattle(0.05, rng=rng)
        results = {
            "energy": -300.0 * count + rng.normal() * count**0.5,
            "forces": rng.normal(size=(count, 3)),
        }
        if atoms.pbc.all():
            results["stress"] = 0.01 * rng.normal(size=6)
        result.append(labelled(atoms, **results))
    return result


@pytest.fixture(scope="session")
def structures(frames):
    from tfpes.data import read

    return read(frames, CUTOFF, verbose=False)


@pytest.fixture(scope="session")
def dense():
    """Return a function from dicts {atomic number: count} to an array (S, 119)."""

    def fill(*compositions):
        array = np.zeros((len(compositions), 119))
        for row, composition in zip(array, compositions, strict=True):
            for number, count in composition.items():
                row[number] = count
        return array

    return fill


@pytest.fixture(scope="session")
def graph():
    """Return a function from ASE atoms to the inputs of a model, without padding.

    Neighbour lists are ASE's, in float64; structures are concatenated with a loop.
    """
    from ase.neighborlist import neighbor_list

    def build(frames, cutoff=CUTOFF, dtype="float64"):
        parts = {name: [] for name in ("r", "z", "s", "c", "e", "S")}
        first = 0
        for number, atoms in enumerate(frames):
            i, j, shift = neighbor_list("ijS", atoms, cutoff)
            parts["r"].append(atoms.positions)
            parts["z"].append(atoms.numbers)
            parts["s"].append(np.full(len(atoms), number))
            parts["c"].append((atoms.cell.array * atoms.pbc[:, None])[None])
            parts["e"].append(np.stack([i, j]).reshape(2, -1) + first)
            parts["S"].append(shift.reshape(-1, 3))
            first += len(atoms)
        return {
            "positions": np.concatenate(parts["r"]).astype(dtype),
            "atomic_numbers": np.concatenate(parts["z"]).astype(np.int32),
            "structure_index": np.concatenate(parts["s"]).astype(np.int32),
            "cell": np.concatenate(parts["c"]).astype(dtype),
            "edge_index": np.concatenate(parts["e"], axis=1).astype(np.int32),
            "edge_shift": np.concatenate(parts["S"]).astype(dtype),
        }

    return build


@pytest.fixture
def policy():
    """Return a setter of Keras's global dtype policy, undone after the test."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A small potential that was compiled with XLA, fitted and written."""

    model: object
    structures: object
    dataset: object
    losses: list
    keras_file: Path
    saved_model: Path


@pytest.fixture(scope="session")
def crystals():
    """Return small crystals of Cu and Au with energies, forces and stress by EMT."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng = np.random.default_rng(5)
    result = []
    for number in range(8):
        atoms = bulk("Cu", a=3.7, cubic=True) * (1, 1, 1 + number % 2)
        atoms.numbers[rng.random(len(atoms)) < 0.4] = 79
        atoms.set_cell(atoms.cell * rng.uniform(1.0, 1.1), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        result.append(atoms)
    return result


@pytest.fixture(scope="session")
def trained(crystals, tmp_path_factory):
    """Train for 30 steps on one batch, save and export."""
    import keras

    import tfpes

    keras.utils.set_random_seed(1)
    structures = tfpes.data.read(crystals, CUTOFF, verbose=False)
    dataset = structures.batches(8, labels=("energy", "forces", "virial"))
    normalization = tfpes.layers.PESNormalization()
    normalization.adapt(dataset)
    dataset = structures.batches(8)
    network = tfpes.models.SchNet(cutoff=CUTOFF, channels=8, blocks=1, basis_size=8)
    model = tfpes.models.Potential(network, normalization)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={
            "energy": tfpes.losses.EnergyLoss(normalization),
            "forces": tfpes.losses.ForceLoss(normalization, "huber", delta=2.0),
        },
        loss_weights={"energy": 1.0, "forces": 0.5},
        metrics={
            "energy": [
                tfpes.metrics.EnergyMAE(),
                tfpes.metrics.StandardizedRMSE(normalization, "energy"),
            ],
            "forces": [tfpes.metrics.ForceRMSE()],
        },
        jit_compile=True,
    )
    history = model.fit(dataset, epochs=30, shuffle=False, verbose=0)
    folder = tmp_path_factory.mktemp("trained")
    model.save(folder / "model.keras")
    model.export(folder / "saved_model")
    return Trained(
        model,
        structures,
        dataset,
        history.history["loss"],
        folder / "model.keras",
        folder / "saved_model",
    )


@pytest.fixture
def without_xla(monkeypatch):
    """Let runs train without XLA, quicker, where it is not what is tested."""
    import tfpes

    compile_ = tfpes.models.Potential.compile

    def compile_without(self, **options):
        compile_(self, **{**options, "jit_compile": False})

    monkeypatch.setattr(tfpes.models.Potential, "compile", compile_without)


@pytest.fixture(scope="session")
def run_python(tmp_path_factory):
    """Return a function that runs a script in a new process, with arguments."""
    import subprocess
    import sys

    def run(script, *arguments):
        path = tmp_path_factory.mktemp("script") / "script.py"
        path.write_text(script)
        command = [sys.executable, "-W", "ignore", str(path), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@dataclasses.dataclass(frozen=True)
class LennardJones:
    """A potential whose network is a Lennard-Jones sum, exported in both precisions."""

    saved_model: Path
    saved_model64: Path
    parameters: dict

    def reference(self):
        """Return ASE's calculator of the same energy."""
        from ase.calculators.lj import LennardJones as Reference

        return Reference(smooth=True, **self.parameters)


@pytest.fixture(scope="session")
def lennard_jones(tmp_path_factory):
    """Return a potential that binds crystals of Cu and Au with a = 3.6 Å."""
    import keras
    import tensorflow as tf

    import tfpes
    from tfpes.models.radial import edge_vectors, safe_norm

    parameters = {"sigma": 2.34, "epsilon": 0.4, "ro": 3.0, "rc": 4.0}
    sigma, epsilon, ro, rc = parameters.values()

    class Network(keras.layers.Layer):
        cutoff = rc

        def call(self, inputs):
            r2 = safe_norm(edge_vectors(inputs)) ** 2
            inner = tf.clip_by_value(r2, ro**2, rc**2)
            switch = (rc**2 - inner) ** 2 * (rc**2 + 2 * inner - 3 * ro**2)
            sixth = (sigma**2 / r2) ** 3
            pair = 2 * epsilon * (sixth**2 - sixth) * switch / (rc**2 - ro**2) ** 3
            count = tf.shape(inputs["atomic_numbers"])[0]
            return tf.math.unsorted_segment_sum(pair, inputs["edge_index"][0], count)

    norm = tfpes.layers.PESNormalization(
        energy_mean={"Cu": 0.0, "Au": 0.0}, energy_variance={"Cu": 1.0, "Au": 1.0}
    )
    folder = tmp_path_factory.mktemp("lennard_jones")
    for dtype in ("float32", "float64"):
        network = Network(dtype=dtype, autocast=False)
        model = tfpes.models.Potential(network, norm, dtype=dtype)
        model.export(folder / dtype)
    return LennardJones(folder / "float32", folder / "float64", parameters)
