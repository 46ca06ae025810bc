import csv

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

import tfpes
from tfpes.cli._dynamics import Log


def read_log(folder):
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "cu.xyz"
    ase.io.write(path, [bulk("Au"), bulk("Cu", a=3.6, cubic=True)])
    return path


@pytest.fixture(scope="module")
def model(lennard_jones):
    return lennard_jones.saved_model


@pytest.fixture(scope="module")
def finished(run, model, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("md") / "nve"
    options = ["--steps", 25, "--repeat", 1, 1, 2, "-o", folder]
    return folder, run("md", model, start, *options)


def test_nve(finished):
    folder, result = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {"dynamics.png", "log.csv", "trajectory.xyz"}
    assert (folder / "dynamics.png").stat().st_size > 5000
    log = read_log(folder)
    assert log["step"].tolist() == [0, 10, 20, 25]
    assert log["time_fs"].tolist() == [0, 10, 20, 25]
    assert (
        np.ptp(log["total_eV_per_atom"]) < 1e-3 < np.ptp(log["potential_eV_per_atom"])
    )
    drift = 1e3 * (log["total_eV_per_atom"] - log["total_eV_per_atom"][0])
    np.testing.assert_allclose(log["drift_meV_per_atom"], drift, atol=1e-5)
    assert "8 atoms, 25 steps, 25 fs" in result.output


def test_trajectory_agrees_with_the_log(finished):
    folder = finished[0]
    frames, log = ase.io.read(folder / "trajectory.xyz", ":"), read_log(folder)
    assert len(frames) == len(log["step"])
    for number, frame in enumerate(frames):
        potential = frame.get_potential_energy() / 8
        assert potential == pytest.approx(log["potential_eV_per_atom"][number])
        temperature = frame.get_temperature()
        assert temperature == pytest.approx(log["temperature_K"][number], rel=1e-4)
        pressure = -frame.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
        assert pressure == pytest.approx(log["pressure_GPa"][number], rel=1e-4)


@pytest.mark.slow
def test_same_seed_same_trajectory(run, model, start, tmp_path):
    logs = []
    for number, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(number)
        options = ["--steps", 10, "--ensemble", "nvt", "--seed", seed, "-o", folder]
        run("md", model, start, *options)
        logs.append(read_log(folder))
    assert "drift_meV_per_atom" not in logs[0]
    first, second, third = (log["total_eV_per_atom"] for log in logs)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)
    assert abs(first - third).max() > 1e-4


def test_a_trajectory_goes_on(run, model, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("md", model, finished[0] / "trajectory.xyz", "--steps", 2)
    assert "Velocities: those of the file" in result.output
    before = read_log(finished[0])
    after = read_log(tmp_path / "runs/trajectory-md-1")  # the default folder
    for name in ("temperature_K", "total_eV_per_atom"):
        assert after[name][0] == pytest.approx(before[name][-1], rel=1e-4)


@pytest.mark.slow
def test_npt_approaches_the_pressure(run, model, start, tmp_path):
    run(
        "md", model, start, "--ensemble", "npt", "--pressure", 60,
        "--time-step", 2, "--steps", 400, "--temperature", 50, "-o", tmp_path / "npt",
    )  # fmt: skip
    log = read_log(tmp_path / "npt")
    assert np.abs(log["drift_meV_per_atom"]).max() < 1.0
    assert log["volume_A3"][-1] < log["volume_A3"][0] - 2.0
    start_error = abs(log["pressure_GPa"][0] - 60.0)
    assert abs(log["pressure_GPa"][-10:].mean() - 60.0) < 0.5 * start_error


def test_molecule(run, refuse, model, tmp_path):
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]])
    ase.io.write(tmp_path / "dimer.xyz", atoms)
    arguments = ["md", model, tmp_path / "dimer.xyz", "--steps", 10, "-o"]
    run(*arguments, tmp_path / "nve")
    assert "pressure_GPa" not in read_log(tmp_path / "nve")
    refuse(
        [*arguments, tmp_path / "npt", "--ensemble", "npt"],
        "three periodic directions",
        "nvt",
    )
    assert not (tmp_path / "npt").exists()


# -- errors ---------------------------------------------------------------------------


def test_atoms_that_fly_apart(refuse, model, start, tmp_path):
    refuse(
        ["md", model, start, "--time-step", 60, "--temperature", 2000,
         "--interval", 1, "-o", tmp_path / "out"],
        "Atoms must not fly apart",
        "--time-step",
    )  # fmt: skip
    assert len(ase.io.read(tmp_path / "out/trajectory.xyz", ":")) >= 2
    assert (tmp_path / "out/dynamics.png").is_file()


def test_energy_that_is_not_finite(run, model, start, tmp_path, monkeypatch):
    calculate, calls = tfpes.Calculator.calculate, []

    def fail_later(self, *arguments):
        calls.append(arguments)
        if len(calls) > 5:
            self._run = lambda inputs: dict.fromkeys(
                ("energy", "forces", "virial"), np.array(np.nan)
            )
        calculate(self, *arguments)

    monkeypatch.setattr(tfpes.Calculator, "calculate", fail_later)
    run("md", model, start, "--interval", 1, "-o", tmp_path / "out", code=1)
    log = read_log(tmp_path / "out")
    assert len(log["step"]) == 5
    assert all(np.isfinite(values).all() for values in log.values())


def test_interrupt_keeps_the_results(run, model, start, tmp_path, monkeypatch):
    write = Log.write

    def interrupt(self, number=0):
        write(self, number)
        if number == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(Log, "write", interrupt)
    run("md", model, start, "-o", tmp_path / "out", code=130)
    assert read_log(tmp_path / "out")["step"].tolist() == [0, 10, 20]
    assert (tmp_path / "out/dynamics.png").is_file()


def test_nothing_is_overwritten(refuse, model, start, finished):
    before = (finished[0] / "log.csv").read_bytes()
    arguments = ["md", model, start, "-o", finished[0]]
    refuse(arguments, "must be a new or empty folder", "--overwrite")
    assert (finished[0] / "log.csv").read_bytes() == before


def test_bad_start(refuse, model, tmp_path):
    start, out = tmp_path / "start.xyz", ["-o", tmp_path / "out"]
    ase.io.write(start, Atoms("H"))
    refuse(["md", model, start, *out], "trained on Cu, Au", "Received: H.")
    refuse(["md", model, tmp_path / "no.xyz", *out], "file that exists")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--temperature", 0], "`--temperature` must be positive"),
        (["--time-step", -1], "`--time-step` must be positive"),
        (["--time-step", "nan"], "`--time-step` must be positive"),
        (["--steps", 0], "`--steps` must be positive"),
        (["--interval", 0], "`--interval` must be positive"),
        (["--pressure", "inf"], "`--pressure` must be finite"),
        (["--repeat", 1, 0, 1], "`--repeat` must be three positive integers"),
    ],
)
def test_bad_options(refuse, model, start, tmp_path, option, text):
    refuse(["md", model, start, *option, "-o", tmp_path / "out"], text)
    assert not (tmp_path / "out").exists()
