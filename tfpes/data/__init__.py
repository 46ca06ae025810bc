"""From files to padded batches, and the embedded data sets."""

from tfpes.data.packed import packed_labels
from tfpes.data.packing import Padding
from tfpes.data.read import load, open, read, read_or_load
from tfpes.data.structures import Structures
from tfpes.data.verlet_list import VerletList

__all__ = [
    "Padding",
    "Structures",
    "VerletList",
    "load",
    "open",
    "packed_labels",
    "read",
    "read_or_load",
]
