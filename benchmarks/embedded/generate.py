"""Makes the embedded data sets. Users need not run this: the files are shipped.

    python benchmarks/embedded/generate.py molecules [--output DIR]
    python benchmarks/embedded/generate.py alloys [--output DIR]

`molecules` needs the extra `datasets` (tblite). The random numbers are seeded and the
files hold no dates, so with the same libraries, the same processor and one thread
(`OMP_NUM_THREADS=1`) the files come out the same. Elsewhere the last digit of a force
may differ, which dynamics amplify: other frames, drawn from the same distribution.
"""

from __future__ import annotations

import argparse
import lzma
import pathlib
from collections.abc import Iterable

import generate_alloys
import generate_molecules
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from generate_shared import sample
from rich.progress import track

from tfpes.data.embedded import embedded_path

__all__ = ["label", "main", "to_text"]

_POSITION_DECIMALS = 4
_CELL_DECIMALS = 5
_GENERATORS = {"alloys": generate_alloys, "molecules": generate_molecules}


def label(name: str, atoms: Atoms) -> Atoms:
    """Returns `atoms` as the file will hold them, with labels of that very geometry.

    Rounding comes first: labels of the unrounded frame would differ from those of
    the frame in the file by more than the digits that are written.
    """
    atoms = atoms.copy()
    atoms.set_cell(_round(atoms.cell.array, _CELL_DECIMALS))
    atoms.positions = _round(atoms.positions, _POSITION_DECIMALS)
    # A new calculator each time: no label depends on the frame before it.
    atoms.calc = _GENERATORS[name].calculator(atoms)
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all():
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def to_text(structures: Iterable[Atoms]) -> str:
    """Returns `structures` in extended XYZ, with no more digits than are meant."""
    lines: list[str] = []
    for atoms in structures:
        results = atoms.calc.results
        header = ["Properties=species:S:1:pos:R:3:forces:R:3"]
        if atoms.pbc.any():
            header.append(f'Lattice="{_join(atoms.cell.array, _CELL_DECIMALS)}"')
        header.append(f"energy={results['energy']:.6f}")
        if "stress" in results:
            tensor = atoms.get_stress(voigt=False)
            header.append(f'stress="{_join(tensor, 7)}"')
        header += [f'{k}="{atoms.info[k]}"' for k in sorted(atoms.info)]
        header.append('pbc="{} {} {}"'.format(*("FT"[int(p)] for p in atoms.pbc)))
        lines += [str(len(atoms)), " ".join(header)]
        columns = zip(atoms.symbols, atoms.positions, results["forces"], strict=True)
        lines += [
            f"{symbol} {_join(position, _POSITION_DECIMALS)} {_join(force, 4)}"
            for symbol, position, force in columns
        ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Makes one data set and writes it."""
    parser = argparse.ArgumentParser(description="Make an embedded data set.")
    parser.add_argument("name", choices=sorted(_GENERATORS))
    parser.add_argument(
        "--output", type=pathlib.Path, default=embedded_path("alloys").parent
    )
    options = parser.parse_args(arguments)
    generator = _GENERATORS[options.name]
    plan = list(generator.plan())
    structures = [
        label(options.name, atoms)
        for index, trajectory in enumerate(track(plan, options.name))
        for atoms in sample(trajectory, np.random.default_rng([generator.SEED, index]))
    ]
    # Shuffled, so that any prefix of the file is a random subset of it.
    order = np.random.default_rng(generator.SEED).permutation(len(structures))
    text = to_text(structures[i] for i in order)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{options.name}.xyz.xz"
    path.write_bytes(lzma.compress(text.encode(), preset=9))
    print(f"{path}: {len(structures)} structures, {path.stat().st_size} bytes")


def _round(values: np.ndarray, decimals: int) -> np.ndarray:
    return np.round(values, decimals) + 0.0  # Adding zero turns -0 into 0.


def _join(values: np.ndarray, decimals: int) -> str:
    flat = _round(np.ravel(values), decimals)
    return " ".join(f"{value:.{decimals}f}" for value in flat)


if __name__ == "__main__":
    main()
