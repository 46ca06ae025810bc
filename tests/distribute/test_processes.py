"""Two processes against one: the same statistics, gradients and curves."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfpes

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("processes.py")
spec = importlib.util.spec_from_file_location("processes", SCRIPT)
processes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processes)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return what each of two processes found: the tasks of a job of SLURM."""
    folder = tmp_path_factory.mktemp("two")
    step = {
        "SLURM_JOB_ID": str(random.randrange(10**6)),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "2",
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", SCRIPT, folder],
            env={**os.environ, **step, "SLURM_PROCID": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for task in tasks:
            _, errors = task.communicate(timeout=500)
            assert task.returncode == 0, errors
    finally:
        for task in tasks:
            task.kill()
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    """Return what this process finds."""
    return processes.find(tfpes.distribute.Cluster())


def of(found, kind):
    return {k: v for k, v in found.items() if k.startswith(f"{kind}/")}


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
    assert len(expected) >= 4
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
        late, apart = found["errors"]
        assert "made once, before TensorFlow computes anything" in late
        assert "All processes must do the same" in apart
