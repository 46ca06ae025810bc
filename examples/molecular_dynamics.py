"""Train a potential on the embedded alloys and run dynamics with it.

The potential is trained for a short time, exported, and run for 1000 steps of NVE
dynamics (2 fs) on a cell of 108 copper atoms at about 300 K. The picture shows that the
total energy stays where it was: the forces are the derivative of the energy.

    python examples/molecular_dynamics.py [--minutes 1] [--output FOLDER]
"""

# %% Train
import argparse
import os

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # docs/speed.md
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

import tfpes
from tfpes.training import Options, train

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--minutes", type=float, default=1.0)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--output", type=pathlib.Path, default=None)
arguments = parser.parse_args()
folder = arguments.output or pathlib.Path(tempfile.mkdtemp()) / "alloys"
run = train(Options(data=("alloys",), minutes=arguments.minutes, output=str(folder)))

# %% Run
atoms = bulk("Cu", cubic=True) * (3, 3, 3)
atoms.calc = tfpes.Calculator(run / "saved_model")
rng = np.random.default_rng(0)
# Half of the kinetic energy becomes potential energy.
thermalize_momenta(atoms, temperature_K=600, rng=rng)
Stationary(atoms)
dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
energies, temperatures = [], []


def record() -> None:
    """Note the total energy and the temperature."""
    energies.append(atoms.get_total_energy() / len(atoms))
    temperatures.append(atoms.get_temperature())


dynamics.attach(record, interval=10)
dynamics.run(arguments.steps)

# %% Look
energies = 1e3 * (np.array(energies) - energies[0])
time = 0.02 * np.arange(len(energies))
drift = np.polyfit(time, energies, 1)[0] * time[-1]
print(f"\n{len(atoms)} atoms, {arguments.steps} steps of 2 fs")
print(
    f"temperature of the second half: {np.mean(temperatures[len(time) // 2 :]):.0f} K"
)
print(f"total energy: drift {drift:+.3f} meV/atom, largest excursion "
      f"{np.abs(energies).max():.3f} meV/atom")  # fmt: skip
figure, (upper, lower) = plt.subplots(2, 1, sharex=True, figsize=(6, 5))
upper.plot(time, energies)
upper.set_ylabel("total energy [meV/atom]")
lower.plot(time, temperatures)
lower.set(ylabel="temperature [K]", xlabel="time [ps]")
figure.tight_layout()
figure.savefig(run / "dynamics.png")
print(f"drawn in {run / 'dynamics.png'}")
if np.abs(energies).max() > 5:
    raise SystemExit("The total energy is not conserved.")
