"""Molecular dynamics with a potential, from a file to a trajectory."""

import csv
import dataclasses
import math
import pathlib
import time
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.progress import Progress

from tfpes.data.read import iterate
from tfpes.inference.calculator import Calculator
from tfpes.runs import RunOptions, choose_folder

ENSEMBLES = ("nve", "nvt", "npt")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicsOptions:
    """What ``tfpes md`` can be told; the command line describes each."""

    model: str
    start: str
    ensemble: str = "nve"
    temperature: float = 300.0
    pressure: float = 0.0
    time_step: float = 1.0
    steps: int = 1000
    interval: int = 10
    repeat: tuple[int, int, int] = (1, 1, 1)
    seed: int = 0
    output: str | None = None
    overwrite: bool = False


def run_dynamics(options: DynamicsOptions, console: Console) -> pathlib.Path:
    """Integrate the equations of motion and write what happens.

    The ensemble is NVE (velocity Verlet), NVT (Langevin, friction 1/(100 time steps))
    or NPT (Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994); isotropic,
    thermostat 100 and barostat 1000 time steps).

    Args:
        options: what to do.
        console: where to show progress and results.

    Returns:
        The folder of the results: ``trajectory.xyz`` with velocities, ``log.csv`` and
        ``dynamics.png``.

    Raises:
        ValueError: for a bad model, structure or option.
        FileNotFoundError: if a file does not exist.
        FileExistsError: if something would be overwritten.
        FloatingPointError: if energies stop being finite or atoms fly apart.
        KeyboardInterrupt: when interrupted, after the picture has been drawn.
    """
    _check(options)
    folder = choose_folder(
        RunOptions(
            data=(options.start,), output=options.output, overwrite=options.overwrite
        ),
        "-md",
    )
    atoms = _start(options, console)
    atoms.calc = Calculator(options.model)
    atoms.get_potential_energy()  # errors in the structure come before the folder
    folder.mkdir(parents=True, exist_ok=True)
    log = _Log(folder, atoms, _integrator(options, atoms), options)
    begin = time.perf_counter()
    try:
        _integrate(log, options, console)
    finally:
        seconds = time.perf_counter() - begin
        log.close()
        if len(log.rows) > 1:
            # matplotlib takes a second to import.
            from tfpes.plots_dynamics import plot_dynamics

            plot_dynamics(folder / "dynamics.png", log.rows)
            _summarize(log, folder, seconds, console)
    return folder


def _check(options: DynamicsOptions) -> None:
    if options.ensemble not in ENSEMBLES:
        raise ValueError(
            f"`--ensemble` must be one of {', '.join(ENSEMBLES)}. Received: "
            f"{options.ensemble!r}."
        )
    for name in ("temperature", "time_step", "steps", "interval"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be positive. Received: {value}."
            )
    if not math.isfinite(options.pressure):
        raise ValueError(f"`--pressure` must be finite. Received: {options.pressure}.")
    if min(options.repeat) < 1:
        raise ValueError(
            f"`--repeat` must be three positive integers. Received: {options.repeat}."
        )


def _start(options: DynamicsOptions, console: Console) -> Atoms:
    """Read the last structure, and draw its velocities if it has none."""
    atoms = [atoms for _, atoms in iterate(options.start)][-1] * options.repeat
    atoms.calc = None
    if options.ensemble == "npt" and not atoms.pbc.all():
        raise ValueError(
            "A barostat needs three periodic directions. Received: "
            f"{options.start!r} with {atoms.pbc.tolist()}. Use `--ensemble nvt`."
        )
    if np.any(atoms.get_momenta()):
        console.print("Velocities: those of the file.")
    else:
        rng = np.random.default_rng(options.seed)
        thermalize_momenta(atoms, temperature_K=options.temperature, rng=rng)
        if len(atoms) > 1:
            Stationary(atoms)
        console.print(f"Velocities: drawn at {options.temperature:g} K.")
    return atoms


def _integrator(options: DynamicsOptions, atoms: Atoms) -> Any:
    step = options.time_step * units.fs
    if options.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if options.ensemble == "nvt":
        return Langevin(
            atoms,
            step,
            temperature_K=options.temperature,
            friction=0.01 / step,
            fixcm=False,  # ASE's temperature counts the centre of mass
            rng=np.random.default_rng(options.seed + 1),
        )
    return IsotropicMTKNPT(
        atoms,
        step,
        temperature_K=options.temperature,
        pressure_au=options.pressure * units.GPa,
        tdamp=100 * step,
        pdamp=1000 * step,
    )


def _integrate(log: "_Log", options: DynamicsOptions, console: Console) -> None:
    # A crystal at rest gives half of its kinetic energy away; a factor of ten comes
    # only from forces that do not belong to a bound structure.
    limit = 10.0 * max(options.temperature, log.atoms.get_temperature()) + 1000.0
    log.write()
    with Progress(
        *Progress.get_default_columns(),
        "{task.fields[state]}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("Dynamics", total=options.steps, state="")
        # The first item of `irun` is the start.
        steps = log.dynamics.irun(options.steps)
        next(steps)
        for number, _ in enumerate(steps, start=1):
            temperature = log.atoms.get_temperature()
            if not temperature <= limit:
                log.write(number)
                raise FloatingPointError(
                    f"Atoms must not fly apart. Received: {temperature:.0f} K after "
                    f"step {number}. Shorten `--time-step`, relax the structure, or "
                    "train on structures like it; the trajectory shows what happened."
                )
            if number % options.interval == 0 or number == options.steps:
                log.write(number)
                progress.update(task, completed=number, state=f"{temperature:.0f} K")


class _Log:
    """The trajectory and the table, written as the dynamics goes."""

    def __init__(
        self,
        folder: pathlib.Path,
        atoms: Atoms,
        dynamics: Any,
        options: DynamicsOptions,
    ) -> None:
        self.atoms, self.dynamics, self.options = atoms, dynamics, options
        self.rows: list[dict[str, float]] = []
        self._trajectory = (folder / "trajectory.xyz").open("w")
        self._table = (folder / "log.csv").open("w", newline="")

    def write(self, number: int = 0) -> None:
        """Write a frame and a row."""
        row = self._row(number)
        writer = csv.DictWriter(self._table, list(row))
        if not self.rows:
            writer.writeheader()
        writer.writerow({name: f"{value:.10g}" for name, value in row.items()})
        self.rows.append(row)
        ase.io.write(self._trajectory, self.atoms, format="extxyz")
        # A process that is killed leaves whole frames and rows.
        self._trajectory.flush()
        self._table.flush()

    def _row(self, number: int) -> dict[str, float]:
        atoms, count = self.atoms, len(self.atoms)
        potential, total = atoms.get_potential_energy(), atoms.get_total_energy()
        conserved = total
        if self.options.ensemble == "npt":
            conserved = self.dynamics.get_conserved_energy()
        row = {
            "step": number,
            "time_fs": number * self.options.time_step,
            "temperature_K": atoms.get_temperature(),
            "potential_eV_per_atom": potential / count,
            "total_eV_per_atom": total / count,
        }
        if self.options.ensemble != "nvt":
            # A Langevin thermostat conserves nothing.
            start = self.rows[0]["conserved_eV_per_atom"] if self.rows else None
            row["conserved_eV_per_atom"] = conserved / count
            row["drift_meV_per_atom"] = 1e3 * (
                0.0 if start is None else conserved / count - start
            )
        if atoms.pbc.all():
            stress = atoms.get_stress(include_ideal_gas=True)
            row["volume_A3"] = atoms.get_volume()
            row["pressure_GPa"] = -stress[:3].mean() / units.GPa
        return row

    def close(self) -> None:
        """Close the files."""
        self._trajectory.close()
        self._table.close()


def _summarize(
    log: _Log, folder: pathlib.Path, seconds: float, console: Console
) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    steps = int(log.rows[-1]["step"])
    half = log.rows[len(log.rows) // 2 :]
    femtoseconds = log.rows[-1]["time_fs"]
    say(
        f"{len(log.atoms)} atoms, {steps} steps, {femtoseconds:g} fs; "
        f"{steps / seconds:.1f} steps per second"
    )
    for name, label, unit in (
        ("temperature_K", "temperature", "K"),
        ("potential_eV_per_atom", "potential energy", "eV/atom"),
        ("volume_A3", "volume", "Å³"),
        ("pressure_GPa", "pressure", "GPa"),
    ):
        if name in half[0]:
            mean = np.mean([row[name] for row in half])
            say(f"  {label}, mean of the second half: {mean:.5g} {unit}")
    if "drift_meV_per_atom" in half[0]:
        drift = [row["drift_meV_per_atom"] for row in log.rows]
        say(
            f"  conserved energy: {drift[-1]:+.3f} meV/atom at the end, at most "
            f"{np.abs(drift).max():.3f} on the way"
        )
    say(f"Written to {folder}/:")
    for path in sorted(folder.iterdir()):
        say(f"  {path.name}")
