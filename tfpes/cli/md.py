"""``tfpes md``."""

import math
import pathlib
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import typer
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from rich.console import Console

from tfpes.cli import options
from tfpes.cli._dynamics import Log, integrate, plot, summarize
from tfpes.data.sources import iterate
from tfpes.files import made_folder
from tfpes.inference import Calculator
from tfpes.terminal import PlainConsole
from tfpes.training.options import require_positive

_Ensemble = Literal["nve", "nvt", "npt"]


def md_command(
    model: options.Model,
    start: Annotated[
        str,
        typer.Argument(
            help="File that ASE reads; its last structure is the start. Velocities in "
            "it are used."
        ),
    ],
    ensemble: Annotated[_Ensemble, typer.Option(help="What is held fixed.")] = "nve",
    temperature: Annotated[
        float, typer.Option(help="Of the thermostat and of drawn velocities, K.")
    ] = 300.0,
    pressure: Annotated[float, typer.Option(help="Of the barostat, GPa.")] = 0.0,
    time_step: Annotated[float, typer.Option(help="Femtoseconds.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Number of time steps.")] = 1000,
    interval: Annotated[
        int, typer.Option(help="Steps between frames and rows of the log.")
    ] = 10,
    repeat: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell in each direction.")
    ] = (1, 1, 1),
    seed: Annotated[
        int, typer.Option(help="Of the velocities and the thermostat.")
    ] = 0,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Run molecular dynamics with a potential."""
    require_positive(
        temperature=temperature, time_step=time_step, steps=steps, interval=interval
    )
    if not math.isfinite(pressure):
        raise ValueError(f"`--pressure` must be finite. Received: {pressure}.")
    if min(repeat) < 1:
        raise ValueError(
            f"`--repeat` must be three positive integers. Received: {repeat}."
        )
    console = PlainConsole()
    with made_folder(output, overwrite, f"{pathlib.Path(start).stem}-md") as folder:
        atoms = [atoms for _, atoms in iterate(start)][-1] * repeat
        atoms.calc = None
        if ensemble == "npt" and not atoms.pbc.all():
            raise ValueError(
                "A barostat needs three periodic directions. Received: "
                f"{start!r} with {atoms.pbc.tolist()}. Use `--ensemble nvt`."
            )
        _give_velocities(atoms, temperature, seed, console)
        atoms.calc = Calculator(model)
        atoms.get_potential_energy()  # errors in the structure come first
        dynamics, conserved = _integrator(
            atoms, ensemble, time_step, temperature, pressure, seed
        )
        log = Log(folder, dynamics, conserved)
        try:
            integrate(log, steps, interval, temperature, console)
        finally:
            # Whatever stopped it, what there is can be looked at.
            log.close()
            if len(log.rows) > 1:
                plot(folder / "dynamics.png", log.rows)
                summarize(log, folder, console)


def _give_velocities(
    atoms: Atoms, temperature: float, seed: int, console: Console
) -> None:
    """Draw velocities, if there are none."""
    if np.any(atoms.get_momenta()):
        console.print("Velocities: those of the file.")
        return
    rng = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    if len(atoms) > 1:
        Stationary(atoms)
    console.print(f"Velocities: drawn at {temperature:g} K.")


def _integrator(
    atoms: Atoms,
    ensemble: str,
    time_step: float,
    temperature: float,
    pressure: float,
    seed: int,
) -> tuple[MolecularDynamics, Callable[[], float] | None]:
    """Return the dynamics, and what gives the energy that it conserves, if any.

    NVE is velocity Verlet, NVT is Langevin with the friction 1/(100 time steps), NPT is
    Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994): isotropic, thermostat
    100 and barostat 1000 time steps.
    """
    step = time_step * units.fs
    if ensemble == "nve":
        return VelocityVerlet(atoms, step), atoms.get_total_energy
    if ensemble == "nvt":
        langevin = Langevin(
            atoms,
            step,
            temperature_K=temperature,
            friction=0.01 / step,
            fixcm=False,  # ASE's temperature counts the centre of mass
            rng=np.random.default_rng(seed + 1),
        )
        return langevin, None
    dynamics = IsotropicMTKNPT(
        atoms,
        step,
        temperature_K=temperature,
        pressure_au=pressure * units.GPa,
        tdamp=100 * step,
        pdamp=1000 * step,
    )
    return dynamics, dynamics.get_conserved_energy
