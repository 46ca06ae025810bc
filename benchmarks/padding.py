"""Shapes of the batches of an epoch, and what is wasted on padding.

    python benchmarks/padding.py [FILE ...] [--batch-size 4 8 16 32]

Without files, the embedded data sets.
"""

import argparse

from rich.console import Console
from rich.table import Table

import tfpes

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("files", nargs="*")
parser.add_argument("--batch-size", type=int, nargs="+", default=[4, 8, 16, 32])
arguments = parser.parse_args()

table = Table("set", "batch size", "shapes", "atoms wasted", "edges wasted")
for name in arguments.files or ("molecules", "alloys"):
    if arguments.files:
        structures = tfpes.data.read(name, 5.0, verbose=False)
    else:
        structures = tfpes.data.load(name)
    for size in arguments.batch_size:
        padding = structures.padding(size, shuffle=True)
        table.add_row(
            name.rsplit("/", 1)[-1],
            str(size),
            str(len(padding.shapes)),
            f"{padding.atoms:.1%}",
            f"{padding.edges:.1%}",
        )
Console().print(table)
