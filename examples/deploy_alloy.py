"""Train on the embedded alloys, and compare what the potential says with its teacher.

The labels of the data set are by ASE's EMT. A potential is trained for a minute and
exported; then lattice constants and bulk moduli of three metals, and copper at 1300 K,
near its melting point, are computed with the SavedModel and with EMT itself.

    python examples/deploy_alloy.py [--minutes 1] [--steps 400] [--model MODEL]
"""

# %% Train and export
import argparse
import os

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # docs/speed.md
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.visualize.plot import plot_atoms
from rich.console import Console
from rich.table import Table

import tfpes
from tfpes.training import Options, train

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--minutes", type=float, default=1.0)
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--model", help="a potential, instead of training one")
parser.add_argument("--output", type=pathlib.Path, default=None)
arguments = parser.parse_args()
console = Console()
folder = arguments.output or pathlib.Path(tempfile.mkdtemp()) / "alloys"
if arguments.model is None:
    options = Options(data=("alloys",), minutes=arguments.minutes, output=str(folder))
    model = train(options) / "saved_model"
else:
    model = arguments.model
    folder.mkdir(parents=True, exist_ok=True)
calculators = {"SavedModel": tfpes.Calculator(model), "EMT": EMT()}


# %% Lattice constants and bulk moduli
def energies(images, calculator):
    if isinstance(calculator, tfpes.Calculator):
        return [result["energy"] for result in calculator.predict(images)]
    result = []
    for atoms in images:
        atoms.calc = calculator
        result.append(atoms.get_potential_energy())
    return result


def equation_of_state(symbol, calculator):
    """Return lattice constant, Å, and bulk modulus, GPa, of an FCC metal."""
    start = bulk(symbol, "fcc").cell.lengths()[0] * np.sqrt(2)
    # A wide scan finds the minimum, a narrow one about it the curvature.
    for width, points in ((0.08, 25), (0.02, 9)):
        constants = start * np.linspace(1 - width, 1 + width, points)
        images = [bulk(symbol, "fcc", a=a) for a in constants]
        values = energies(images, calculator)
        start = constants[np.argmin(values)]
    fit = EquationOfState([atoms.get_volume() for atoms in images], values)
    volume, _, modulus = fit.fit(warn=False)
    return (4 * volume) ** (1 / 3), modulus / units.GPa


table = Table(
    "metal", "a [Å]", "a by EMT", "error", "B [GPa]", "B by EMT", "error",
    title="Lattice constant and bulk modulus",
)  # fmt: skip
for symbol in ("Ni", "Cu", "Au"):
    (a, b), (a_emt, b_emt) = (
        equation_of_state(symbol, calculator) for calculator in calculators.values()
    )
    table.add_row(
        symbol, f"{a:.3f}", f"{a_emt:.3f}", f"{a / a_emt - 1:+.1%}",
        f"{b:.0f}", f"{b_emt:.0f}", f"{b / b_emt - 1:+.0%}",
    )  # fmt: skip
console.print(table)

# %% Copper at 1300 K
table = Table(
    "calculator", "E - E(crystal) [eV/atom]", "RMS displacement [Å]", "pressure [GPa]",
    title=f"108 Cu atoms at 1300 K, {arguments.steps} steps of 2 fs, second half",
)  # fmt: skip
figure, axes = plt.subplots(1, 2, figsize=(9, 4.8))
for panel, (name, calculator) in zip(axes, calculators.items(), strict=True):
    # 2 % more than the cold crystal: copper expands.
    atoms = bulk("Cu", a=3.70, cubic=True) * (3, 3, 3)
    atoms.calc = calculator
    crystal, cold = atoms.positions.copy(), atoms.get_potential_energy()
    thermalize_momenta(atoms, 2600, rng=np.random.default_rng(0))
    rows = []
    with Langevin(
        atoms, 2 * units.fs, temperature_K=1300, friction=0.01 / units.fs,
        fixcm=False, rng=np.random.default_rng(1),
    ) as dynamics:  # fmt: skip
        for _ in dynamics.irun(arguments.steps):
            if dynamics.nsteps > arguments.steps // 2:
                moved = atoms.positions - crystal
                moved -= moved.mean(axis=0)
                stress = atoms.get_stress(include_ideal_gas=True)
                rows.append(
                    [
                        (atoms.get_potential_energy() - cold) / len(atoms),
                        np.mean(np.sum(moved**2, axis=1)),
                        -stress[:3].mean() / units.GPa,
                    ]
                )
    energy, square, pressure = np.mean(rows, axis=0)
    table.add_row(name, f"{energy:.3f}", f"{np.sqrt(square):.2f}", f"{pressure:.1f}")
    plot_atoms(atoms, panel, rotation="10x,-10y", radii=0.6)
    panel.set_title(f"{name}, after {2e-3 * arguments.steps:g} ps at 1300 K")
    panel.set(xlabel="Å", ylabel="Å")
console.print(table)
figure.tight_layout()
figure.savefig(folder / "snapshot.png", dpi=120)
console.print(f"drawn in {folder / 'snapshot.png'}", highlight=False, soft_wrap=True)
