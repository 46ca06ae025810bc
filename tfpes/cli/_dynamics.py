"""A run of molecular dynamics: steps, log, picture."""

import csv
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import ase.io
import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.md.md import MolecularDynamics
from rich.console import Console
from rich.progress import Progress

from tfpes.files import create, listing
from tfpes.plotting import STYLE, save_figure

_PANELS = (
    ("temperature_K", "temperature [K]"),
    ("potential_eV_per_atom", "potential energy\n[eV/atom]"),
    ("drift_meV_per_atom", "change of the conserved\nenergy [meV/atom]"),
    ("volume_A3", "volume [Å³]"),
)


class Log:
    """``trajectory.xyz`` with velocities and ``log.csv``, written as dynamics goes.

    Args:
        folder: of the two files.
        dynamics: what moves the atoms.
        conserved: gives the energy that the dynamics conserves, eV.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        dynamics: MolecularDynamics,
        conserved: Callable[[], float] | None,
    ) -> None:
        """Open the files."""
        self.atoms, self.dynamics, self.conserved = dynamics.atoms, dynamics, conserved
        self.rows: list[dict[str, float]] = []
        self._start = time.perf_counter()
        self._trajectory = create(folder / "trajectory.xyz")
        self._table = create(folder / "log.csv", newline="")

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
        row = {
            "step": number,
            "time_fs": number * self.dynamics.dt / units.fs,
            "temperature_K": atoms.get_temperature(),
            "potential_eV_per_atom": atoms.get_potential_energy() / count,
            "total_eV_per_atom": atoms.get_total_energy() / count,
        }
        if self.conserved is not None:
            value = self.conserved() / count
            start = self.rows[0]["conserved_eV_per_atom"] if self.rows else value
            row["conserved_eV_per_atom"] = value
            row["drift_meV_per_atom"] = 1e3 * (value - start)
        if atoms.pbc.all():
            stress = atoms.get_stress(include_ideal_gas=True)
            row["volume_A3"] = atoms.get_volume()
            row["pressure_GPa"] = -stress[:3].mean() / units.GPa
        return row

    def close(self) -> None:
        """Close the files."""
        self.seconds = time.perf_counter() - self._start
        self._trajectory.close()
        self._table.close()


def integrate(
    log: Log, steps: int, interval: int, temperature: float, console: Console
) -> None:
    """Make the steps and fill the log.

    Raises:
        FloatingPointError: if energies stop being finite or atoms fly apart.
    """
    # A crystal at rest gives half of its kinetic energy away; a factor of ten comes
    # only from forces that do not belong to a bound structure.
    limit = 10.0 * max(temperature, log.atoms.get_temperature()) + 1000.0
    log.write()
    with Progress(
        *Progress.get_default_columns(),
        "{task.fields[state]}",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("Dynamics", total=steps, state="")
        # The first item of `irun` is the start.
        moves = log.dynamics.irun(steps)
        next(moves)
        for number, _ in enumerate(moves, start=1):
            now = log.atoms.get_temperature()
            if not now <= limit:
                log.write(number)
                raise FloatingPointError(
                    f"Atoms must not fly apart. Received: {now:.0f} K after step "
                    f"{number}. Shorten `--time-step`, relax the structure, or train "
                    "on structures like it; the trajectory shows what happened."
                )
            if number % interval == 0 or number == steps:
                log.write(number)
                progress.update(task, completed=number, state=f"{now:.0f} K")


def summarize(log: Log, folder: pathlib.Path, console: Console) -> None:
    """Print means of the second half, the drift and the files."""
    steps = int(log.rows[-1]["step"])
    half = log.rows[len(log.rows) // 2 :]
    lines = [
        f"{len(log.atoms)} atoms, {steps} steps, {log.rows[-1]['time_fs']:g} fs; "
        f"{steps / log.seconds:.1f} steps per second"
    ]
    for name, label, unit in (
        ("temperature_K", "temperature", "K"),
        ("potential_eV_per_atom", "potential energy", "eV/atom"),
        ("volume_A3", "volume", "Å³"),
        ("pressure_GPa", "pressure", "GPa"),
    ):
        if name in half[0]:
            mean = np.mean([row[name] for row in half])
            lines.append(f"  {label}, mean of the second half: {mean:.5g} {unit}")
    if log.conserved is not None:
        drift = [row["drift_meV_per_atom"] for row in log.rows]
        lines.append(
            f"  conserved energy: {drift[-1]:+.3f} meV/atom at the end, at most "
            f"{np.abs(drift).max():.3f} on the way"
        )
    lines.append(listing(folder))
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def plot(path: pathlib.Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Draw temperature, energies and volume, if it changes, against time."""
    panels = [
        (label, values)
        for name, label in _PANELS
        if name in rows[0]
        and (name != "volume_A3" or np.ptp([row[name] for row in rows]) > 0)
        for values in [[row[name] for row in rows]]
    ]
    picoseconds = [1e-3 * row["time_fs"] for row in rows]
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(panels), 1, sharex=True, figsize=(7, 1.9 * len(panels) + 0.6)
        )
        for axes, (label, values) in zip(grid, panels, strict=True):
            axes.plot(picoseconds, values, linewidth=1)
            axes.set_ylabel(label)
            axes.ticklabel_format(axis="y", useOffset=False)
        grid[-1].set_xlabel("time [ps]")
        figure.align_ylabels()
        save_figure(figure, path)
