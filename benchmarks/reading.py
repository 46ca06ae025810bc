"""How the time to read structures divides among ASE, vesin and tfpes.

    python benchmarks/reading.py FILE [--cutoff 5] [--repeat 5]

All three are timed in the same run, in turns; the medians, their shares and the rates
are printed.
"""

import argparse
import statistics
import time

import ase.io
import vesin

import tfpes


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("file")
parser.add_argument("--cutoff", type=float, default=5.0)
parser.add_argument("--repeat", type=int, default=5)
arguments = parser.parse_args()


def neighbours(frames):
    finder = vesin.NeighborList(
        cutoff=arguments.cutoff, full_list=True, sorted=True, n_threads=1
    )
    for atoms in frames:
        finder.compute(atoms.positions, atoms.cell.array, atoms.pbc, "PSd")


parse, search, read, labels = [], [], [], []
for _ in range(arguments.repeat):
    seconds, frames = timed(lambda: ase.io.read(arguments.file, ":"))
    parse.append(seconds)
    search.append(timed(lambda frames=frames: neighbours(frames))[0])
    seconds, structures = timed(
        lambda: tfpes.data.read(arguments.file, arguments.cutoff, verbose=False)
    )
    read.append(seconds)
    seconds, _ = timed(
        lambda: tfpes.data.read(
            arguments.file, arguments.cutoff, neighbours=False, verbose=False
        )
    )
    labels.append(seconds)
print(structures)
total = statistics.median(read)
parse_time, search_time = statistics.median(parse), statistics.median(search)
print(f"tfpes.data.read, all of it   {total:7.3f} s  100 %")
for name, seconds in (
    ("ase.io.read alone", parse_time),
    ("vesin alone", search_time),
    ("the rest: tfpes", total - parse_time - search_time),
):
    print(f"{name:27s}  {seconds:7.3f} s  {seconds / total:4.0%}")
for name, seconds in (
    ("with neighbour lists", total),
    ("without, as for statistics", statistics.median(labels)),
):
    print(f"{name:27s} {len(structures) / seconds:8.0f} structures/s")
