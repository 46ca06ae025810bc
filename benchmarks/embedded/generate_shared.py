"""What the two generators share: frames of a molecular-dynamics run.

The dynamics are real, not random displacements, because forces along a thermal
trajectory are correlated as a potential will meet them: stiff bonds move little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin

__all__ = ["Trajectory", "sample"]

_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One run of Langevin dynamics, and how many of its frames are kept.

    Attributes:
        build: Makes the first frame. Called again if a run has to be given up.
        calculator: Makes the calculator that drives the run.
        schedule: (steps, temperature in K) of each stage before the first kept
            frame. Frames are kept at the last temperature.
        config_type: Label of the frames.
        name: Name of the frames, or an empty string.
        count: Number of frames to keep.
        gap: Steps between kept frames.
        timestep: In fs.
        friction: In 1/fs.
        max_force: A frame with a larger force, in eV/Å, ends the run.
        intact: Tells whether a frame still is what it should be.
    """

    build: Callable[[np.random.Generator], Atoms]
    calculator: Callable[[], Calculator]
    schedule: tuple[tuple[int, float], ...]
    config_type: str
    count: int
    gap: int
    timestep: float
    friction: float
    max_force: float
    name: str = ""
    intact: Callable[[Atoms], bool] = lambda atoms: True


def sample(trajectory: Trajectory, rng: np.random.Generator) -> list[Atoms]:
    """Returns exactly `trajectory.count` frames, without calculator or velocities.

    A run that leaves its bounds is cut at the first bad frame and the rest is taken
    from a new one, so the size of the data set does not depend on the outcome.
    """
    frames: list[Atoms] = []
    for _ in range(_ATTEMPTS):
        try:
            for frame in _run(trajectory, rng):
                frames.append(_strip(frame, trajectory))
                if len(frames) == trajectory.count:
                    return frames
        except CalculationFailed:
            continue
    raise RuntimeError(
        f"A trajectory must give {trajectory.count} frames. Received: {len(frames)} "
        f"of {trajectory.name or trajectory.config_type} after {_ATTEMPTS} attempts. "
        "Lower its temperature or its time step."
    )


def _run(trajectory: Trajectory, rng: np.random.Generator) -> Iterator[Atoms]:
    atoms = trajectory.build(rng)
    if len(atoms) == 1:  # Without neighbours in its cell it has nowhere to move.
        yield atoms
        return
    temperature = trajectory.schedule[0][1]
    atoms.set_constraint(FixCom())
    atoms.calc = trajectory.calculator()
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * rng.standard_normal((len(atoms), 3)))
    dynamics = Langevin(
        atoms,
        trajectory.timestep * units.fs,
        temperature_K=temperature,
        friction=trajectory.friction / units.fs,
        fixcm=False,
        rng=rng,
    )
    for steps, temperature in trajectory.schedule:
        dynamics.set_temperature(temperature_K=temperature)
        dynamics.run(steps)
    for _ in range(trajectory.count):
        largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
        if not largest < trajectory.max_force or not trajectory.intact(atoms):
            return
        yield atoms
        dynamics.run(trajectory.gap)


def _strip(atoms: Atoms, trajectory: Trajectory) -> Atoms:
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info["config_type"] = trajectory.config_type
    if trajectory.name:
        frame.info["name"] = trajectory.name
    return frame
