"""From files to padded batches, and the embedded data sets."""

from tfpes.data.padding import Padding
from tfpes.data.read import load, read
from tfpes.data.structures import Structures

__all__ = ["Padding", "Structures", "load", "read"]
