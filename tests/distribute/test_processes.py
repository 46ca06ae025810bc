"""Several processes against one: the same statistics, gradients and curves."""

import importlib.util
import json
import multiprocessing
import random
import runpy
import signal
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import tfpes
from tfpes.distribute.launch import _free_ports

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("processes.py")
spec = importlib.util.spec_from_file_location("processes", SCRIPT)
processes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processes)


def together(task, folder, environments, codes=None):
    """Do a task in several processes, which import the package once for all."""
    codes = codes or [0] * len(environments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfpes"])
    tasks = []
    for environment in environments:
        names = {"ENVIRONMENT": environment, "TASK": task, "FOLDER": str(folder)}
        arguments = str(SCRIPT), names, "__main__"
        tasks.append(context.Process(target=runpy.run_path, args=arguments))
        tasks[-1].start()
    try:
        for process in tasks:
            process.join(200)
        assert [process.exitcode for process in tasks] == codes
    finally:
        for process in tasks:
            process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of files: 40 % of energies missing, batches of unequal size."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(3)
    for name, sizes in (
        ("train", rng.permutation([1, 1, 2] * 9)),
        ("valid", [9, *[1] * 8]),
    ):
        frames = []
        for number, size in enumerate(sizes):
            atoms = bulk("Cu", a=3.7, cubic=True) * (1, 1, int(size))
            atoms.numbers[rng.random(len(atoms)) < 0.4] = 79
            atoms.rattle(0.1, rng=rng)
            atoms.calc = EMT()
            atoms.get_forces()
            if number % 5 < 2:
                del atoms.calc.results["energy"]
            frames.append(atoms)
        ase.io.write(folder / f"{name}.xyz", frames)
    return folder


@pytest.fixture(scope="module")
def two(folder):
    """Return what each of two processes found: the tasks of a job of SLURM."""
    step = {
        "SLURM_JOB_ID": str(random.randrange(10**6)),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
    }
    ranks = [{**step, "SLURM_PROCID": str(rank)} for rank in range(2)]
    together("pair", folder, ranks)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder):
    """Return what this process finds."""
    with pytest.MonkeyPatch.context() as patch:
        for place, name in (
            (tfpes.training.run, "Cluster"),
            (tfpes.training.run, "write_results"),
            (tfpes.models.Potential, "compile"),
        ):
            patch.setattr(place, name, getattr(place, name))
        processes.only_train(folder)
    return processes.find(tfpes.distribute.Cluster(), folder)[0]


def workers(number):
    """Return the environment of each worker on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(number)]
    tasks = [{"type": "worker", "index": rank} for rank in range(number)]
    configs = [{"cluster": {"worker": addresses}, "task": task} for task in tasks]
    return [{"TF_CONFIG": json.dumps(config)} for config in configs]


def of(found, kind):
    return {k: v for k, v in found.items() if k.startswith(f"{kind}/")}


def results(folder, run):
    return json.loads((folder / str(run) / "metrics.json").read_text())


def test_shards_of_one_structure_and_of_all_others(alone, two, close):
    for found in two:
        assert str(found["report"]) == str(alone["report"])
        for name, expected in of(alone, "statistics").items():
            close(found[name], expected)


@pytest.mark.parametrize("case", processes.CASES)
def test_gradients(alone, two, close, case):
    expected = of(alone, f"gradient/{case}")
    assert len(expected) == 4
    scale = max(np.abs(values).max() for values in expected.values())
    assert scale > 1e-3
    for found in two:
        for name, values in expected.items():
            close(found[name], values, scale=scale)


@pytest.mark.parametrize("case", [*processes.CASES, "fit", "compiled fit"])
def test_histories(alone, two, case):
    expected = of(alone, f"history/{case}")
    assert expected
    for found in two:
        histories = of(found, f"history/{case}")
        assert histories.keys() == expected.keys()
        for name, values in expected.items():
            assert np.isfinite(values).all()
            np.testing.assert_allclose(histories[name], values, rtol=1e-5, err_msg=name)


def test_evaluate_with_averaged_weights(alone, two):
    for found in two:
        assert found["evaluate"] == pytest.approx(alone["evaluate"], rel=1e-5)


def test_what_processes_tell_each_other(two):
    for found in two:
        assert found["gathered"].tolist() == [0, 1, 0, 1, 2]
        assert found["broadcast"].tolist() == [1.5, 0.0]


def test_refusals(two):
    texts = (
        "made once, before TensorFlow computes anything",
        "Received: `fit` of 'own_1', which is not, with batches of `share=cluster`",
        "Call `cluster.adapt(norm, batches)`",
        "Received: [1 0 1 0] of them, at one time, in a step of `fit`",
        "Received: [0 1 0 1] of them, at one time, in a step of `fit`",
        "no answer of another one, which has ended or has not come within 5 s",
    )
    for found, number in zip(two, (6, 5), strict=True):
        for error, text in zip(found["errors"], texts[:number], strict=True):
            assert text in error


@pytest.mark.parametrize("size", [2, 3])
def test_runs_have_the_same_curves(alone, two, folder, size):
    """Also where a process has no structure of a batch."""
    if size == 3:
        together("only_train", folder, workers(size))
    expected, found = (results(folder, run)["history"] for run in (1, size))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert len(values) == 6
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_killed_and_resumed(two, folder, without_xla):
    """Where one process is killed, all end; who goes on comes to the same end."""
    together("killed", folder, workers(2), [1, -signal.SIGKILL])
    assert (folder / "killed" / "checkpoint.npz").exists()
    tfpes.training.resume(folder / "killed")
    expected, found = (results(folder, name) for name in (2, "killed"))
    for name, values in expected["history"].items():
        np.testing.assert_allclose(found["history"][name], values, rtol=1e-5)
