"""Dynamics and prediction: steps and structures per second, alone and beside a peer.

    python benchmarks/inference.py [--quick] [--peers-python PYTHON]

SchNet with 64 channels, 3 blocks, 50 Gaussians and a cutoff of 5 Å, untrained (time
does not depend on the weights) and with forces scaled to nearly nothing, so that atoms
move as they do at 300 K whatever the weights are. Dynamics is ASE's velocity Verlet,
1 fs, on copper. All contestants take turns in one run, on the same cores; the best of
several turns counts. graph-pes (`pip install 'tfpes[peers]'`) runs in the interpreter
given.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

import ase
import keras
import numpy as np
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from rich.console import Console
from rich.table import Table

import tfpes
from tfpes.data.neighbours import neighbour_list

CUTOFF, CHANNELS, BLOCKS, GAUSSIANS = 5.0, 64, 3, 50
SIZES = {108: (3, 100), 864: (6, 20)}
"""Atoms to repetitions of the cubic cell and steps in a turn."""
console = Console(width=100)

GRAPH_PES = """
import json, sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np, torch
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from graph_pes.models import SchNet
from graph_pes.utils.calculator import GraphPESCalculator

cutoff, channels, blocks, gaussians = map(float, sys.argv[1:5])
torch.manual_seed(0)
model = SchNet(cutoff, int(channels), int(gaussians), int(blocks))
with torch.no_grad():
    for parameter in model.read_out.parameters():
        parameter.mul_(1e-4)
model.eval()
runs = {}
for line in sys.stdin:
    request = json.loads(line)
    key = json.dumps(request)
    if key not in runs:
        repeat = request["repeat"]
        atoms = bulk("Cu", cubic=True) * (repeat, repeat, repeat)
        thermalize_momenta(atoms, 300, rng=np.random.default_rng(0))
        Stationary(atoms)
        atoms.calc = GraphPESCalculator(model, skin=request["skin"])
        runs[key] = VelocityVerlet(atoms, 1 * units.fs)
        runs[key].run(3)
    start = time.perf_counter()
    runs[key].run(request["steps"])
    print(json.dumps(time.perf_counter() - start), flush=True)
"""


class Peer:
    """A process that runs dynamics with graph-pes when it is asked to."""

    def __init__(self, python):
        """Start it."""
        shape = map(str, (CUTOFF, CHANNELS, BLOCKS, GAUSSIANS))
        self.process = subprocess.Popen(
            [python, "-c", GRAPH_PES, *shape],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, **request):
        """Run steps and return the seconds that they took."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while answer := self.process.stdout.readline():
            if answer[0].isdigit():
                return float(answer)
        raise SystemExit("graph-pes failed; run its part by hand to see why")


def potential():
    keras.utils.set_random_seed(0)
    elements = {"Ni": 1e-8, "Cu": 1e-8, "Pd": 1e-8, "Ag": 1e-8, "Pt": 1e-8, "Au": 1e-8}
    norm = tfpes.layers.PESNormalization(energy_variance=elements)
    network = tfpes.models.SchNet(CUTOFF, CHANNELS, BLOCKS, GAUSSIANS)
    return tfpes.models.Potential(network, norm)


def copper(repeat):
    atoms = bulk("Cu", cubic=True) * (repeat, repeat, repeat)
    thermalize_momenta(atoms, 300, rng=np.random.default_rng(0))
    Stationary(atoms)
    return atoms


def ours(model, repeat, skin):
    atoms = copper(repeat)
    atoms.calc = tfpes.Calculator(model, skin=skin)
    dynamics = VelocityVerlet(atoms, 1 * units.fs)
    dynamics.run(3)

    def turn(steps):
        start = time.perf_counter()
        dynamics.run(steps)
        return time.perf_counter() - start

    return turn


def best(contestants, turns):
    """Return the least time of each contestant; they take turns."""
    times = {name: [] for name in contestants}
    for _ in range(turns):
        for name, run in contestants.items():
            times[name].append(run())
    return {name: min(values) for name, values in times.items()}


def dynamics(model, peer, quick):
    table = Table("atoms", "calculator", "ms per step", "steps/s", "times graph-pes",
                  title="Dynamics")  # fmt: skip
    for atoms, (repeat, steps) in SIZES.items():
        steps = steps // 5 if quick else steps

        def mine(skin, repeat=repeat, steps=steps):
            turn = ours(model, repeat, skin)
            return lambda: turn(steps)

        def theirs(skin, repeat=repeat, steps=steps):
            request = {"repeat": repeat, "skin": skin, "steps": steps}
            peer.run(**request)  # builds it
            return lambda: peer.run(**request)

        contestants = {"tfpes, skin 0.5 Å": mine(0.5), "tfpes, no skin": mine(0.0)}
        if peer is not None:
            contestants["graph-pes, skin 1 Å (its default)"] = theirs(1.0)
            contestants["graph-pes, no skin"] = theirs(0.0)
        seconds = best(contestants, 3 if quick else 7)
        reference = min(
            (value for name, value in seconds.items() if name.startswith("graph")),
            default=None,
        )
        for name, value in seconds.items():
            ratio = "-" if reference is None else f"{reference / value:.2f}"
            table.add_row(str(atoms), name, f"{1e3 * value / steps:.2f}",
                          f"{steps / value:.1f}", ratio)  # fmt: skip
        table.add_section()
    console.print(table)
    if peer is not None:
        console.print("Ratios are to the faster of the two settings of graph-pes.")


def parts(model, quick):
    """Where a step of the calculator goes: neighbour list, inputs, network."""
    table = Table("atoms", "edges", "new list [ms]", "list with skin [ms]",
                  "all inputs [ms]", "whole step [ms]", title="A step")  # fmt: skip
    for count, (repeat, _) in SIZES.items():
        atoms = copper(repeat)
        atoms.rattle(0.05, rng=np.random.default_rng(0))
        calculator = tfpes.Calculator(model)
        calculator.calculate(atoms)
        jobs = {
            "new": lambda a=atoms: neighbour_list(
                a.positions, a.cell.array, a.pbc, CUTOFF
            ),
            "skin": lambda a=atoms, c=calculator: c._neighbours.edges(a),
            "inputs": lambda a=atoms, c=calculator: c._inputs(a),
            "step": lambda a=atoms, c=calculator: c.calculate(a),
        }

        def clock(job):
            start = time.perf_counter()
            job()
            return time.perf_counter() - start

        timed = {name: lambda job=job: clock(job) for name, job in jobs.items()}
        seconds = best(timed, 3 if quick else 20)
        edges = len(calculator._neighbours.edges(atoms)[0])
        milliseconds = [f"{1e3 * value:.2f}" for value in seconds.values()]
        table.add_row(str(count), str(edges), *milliseconds)
    console.print(table)


def prediction(model, quick):
    table = Table("way", "structures/s", "atoms/s", title="Many structures: `alloys`")
    structures = tfpes.data.load("alloys")[:: 8 if quick else 2]
    images = [
        ase.Atoms(
            structures.atomic_numbers[first:last],
            structures.positions[first:last],
            cell=cell,
            pbc=True,
        )
        for first, last, cell in zip(
            structures.atom_offsets[:-1],
            structures.atom_offsets[1:],
            structures.cell,
            strict=True,
        )
    ]
    calculator = tfpes.Calculator(model)

    def one_by_one():
        for atoms in images:
            calculator.calculate(atoms)

    ways = {"one by one": one_by_one} | {
        f"predict, batches of {size}": lambda size=size: calculator.predict(
            images, size
        )
        for size in (4, 16, 64)
    }
    for name, run in ways.items():
        run()  # compiles
        times = []
        for _ in range(1 if quick else 3):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        atoms = sum(map(len, images))
        table.add_row(name, f"{len(images) / min(times):.0f}",
                      f"{atoms / min(times):.0f}")  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps and turns")
    parser.add_argument("--peers-python", help="interpreter that has graph-pes")
    arguments = parser.parse_args()
    python = arguments.peers_python or sys.executable
    probe = [python, "-c", "import graph_pes"]
    peer = None
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        peer = Peer(python)
    else:
        console.print(f"graph-pes cannot be imported by {pathlib.Path(python).name}: "
                      "only ours. Name an interpreter that has it with "
                      "--peers-python.")  # fmt: skip
    model = potential()
    parts(model, arguments.quick)
    dynamics(model, peer, arguments.quick)
    prediction(model, arguments.quick)
    if peer is not None:
        peer.process.stdin.close()
        peer.process.wait()
