"""Columns in a folder: files of NumPy arrays, which are mapped into memory."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tfpes.files import replacing_folder, write_json

_INDEX = "structures.json"
_FORMAT = "tfpes.data.Structures"
_VERSION = 1
_UNITS = {
    "positions": "Å", "cell": "Å", "energy": "eV", "forces": "eV/Å", "virial": "eV",
}  # fmt: skip
COLUMNS: dict[str, tuple[Any, str, tuple[int, ...]]] = {
    "positions": (np.float32, "atoms", (3,)),
    "atomic_numbers": (np.int32, "atoms", ()),
    "cell": (np.float32, "structures", (3, 3)),
    "edge_index": (np.int32, "edges", (2,)),
    "edge_shift": (np.int16, "edges", (3,)),
    "energy": (np.float64, "structures", ()),
    "forces": (np.float32, "atoms", (3,)),
    "virial": (np.float64, "structures", (3, 3)),
    "atom_offsets": (np.int64, "offsets", ()),
    "edge_offsets": (np.int64, "offsets", ()),
    "config_type": (np.str_, "structures", ()),
    "weight": (np.float64, "structures", ()),
}
"""Of structures: dtype, what has a row, and the shape of a row. In files, a row of
``edge_index`` is an edge, (P, 2)."""


def is_folder(path: Any) -> bool:
    """Return whether a path is that of a folder of structures."""
    return (
        isinstance(path, str | pathlib.Path) and (pathlib.Path(path) / _INDEX).is_file()
    )


def require_replaceable(path: str | pathlib.Path) -> None:
    """Raise a FileExistsError where something else than structures would be lost."""
    folder = pathlib.Path(path)
    if folder.is_dir():
        lost = not is_folder(path) and any(folder.iterdir())
    else:
        lost = folder.exists()
    if lost:
        raise FileExistsError(
            "A folder of structures takes the place of nothing but such a folder. "
            f"Received: '{folder}', which is something else. Name another one."
        )


def write(
    path: str | pathlib.Path,
    parts: Iterable[Mapping[str, Any]],
    cutoff: float,
    edges: bool,
) -> None:
    """Write columns, one part after the other: the whole folder or nothing of it.

    Args:
        path: of the folder; one of structures that is there is replaced.
        parts: columns of structures, only one of which is in memory at a time.
        cutoff: of the neighbour lists, Å.
        edges: whether to write them, or only the length of each.

    Raises:
        FileExistsError: if something else is there.
    """
    require_replaceable(path)
    kept = {n: row for n, row in COLUMNS.items() if edges or row[1] != "edges"}
    total = dict.fromkeys(("structures", "atoms", "edges"), 0)
    # Their width is known at the end.
    config_type = [np.zeros(0, "U1")]
    with replacing_folder(path) as folder:
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(_File(folder, name, dtype, shape))
                for name, (dtype, _, shape) in kept.items()
                if name != "config_type"
            }
            for name in ("atom_offsets", "edge_offsets"):
                files[name].append(np.zeros(1))
            for part in parts:
                for name, file in files.items():
                    values = part[name]
                    if name == "edge_index":
                        values = values.T
                    elif name in ("atom_offsets", "edge_offsets"):
                        values = values[1:] + total[f"{name.partition('_')[0]}s"]
                    file.append(values)
                config_type.append(np.asarray(part["config_type"]))
                total["structures"] += len(part["energy"])
                total["atoms"] += int(part["atom_offsets"][-1])
                total["edges"] += int(part["edge_offsets"][-1])
        kinds = np.concatenate(config_type)
        np.save(folder / "config_type.npy", kinds)
        digests = [file.digest.digest() for file in files.values()]
        fingerprint = hashlib.sha256(b"".join([*digests, kinds.tobytes()]))
        write_json(
            folder / _INDEX,
            {
                "format": _FORMAT,
                "version": _VERSION,
                "cutoff": float(cutoff),
                "units": _UNITS,
                **total,
                "edges_are_stored": edges,
                "fingerprint": fingerprint.hexdigest(),
            },
        )


def columns(path: str | pathlib.Path) -> dict[str, Any]:
    """Map the columns of a folder, and return them with the cutoff.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is damaged, or something else.
    """
    folder = pathlib.Path(path)
    if not is_folder(path):
        raise FileNotFoundError(
            "A folder of structures is made by `Structures.save` or `tfpes convert`. "
            f"Received: '{folder}', which has no {_INDEX}. Check the path."
        )
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        if (index["format"], index["version"]) != (_FORMAT, _VERSION):
            raise ValueError("another format")
        number = {key: int(index[key]) for key in ("structures", "atoms", "edges")}
        number["offsets"] = number["structures"] + 1
        found: dict[str, Any] = {"cutoff": float(index["cutoff"])}
        stored = bool(index["edges_are_stored"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"A folder of structures has an index of version {_VERSION}. Received: "
            f"'{folder / _INDEX}', which is damaged or of something else ({error}). "
            "Make the folder again."
        ) from error
    for name, (dtype, rows, shape) in COLUMNS.items():
        if rows == "edges" and not stored:
            found[name] = np.zeros((0, *shape), dtype)
        else:
            found[name] = _map(folder / f"{name}.npy", dtype, (number[rows], *shape))
    for name in ("atom_offsets", "edge_offsets"):
        ends = found[name][[0, -1]].tolist()
        if ends != [0, number[f"{name.partition('_')[0]}s"]]:
            raise _damaged(folder / f"{name}.npy", f"goes from {ends[0]} to {ends[1]}")
    found["edge_index"] = found["edge_index"].T
    return found


def _map(path: pathlib.Path, dtype: Any, shape: tuple[int, ...]) -> NDArray:
    try:
        # Nothing that is read is ever executed.
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    found = (values.dtype.kind, values.shape)
    if found != ("U", shape) if dtype is np.str_ else values.dtype != dtype:
        raise _damaged(path, f"is of {values.dtype}")
    if values.shape != shape:
        raise _damaged(path, f"has the shape {values.shape} instead of {shape}")
    return values


def _damaged(path: pathlib.Path, what: str) -> ValueError:
    return ValueError(
        "The columns of a folder of structures are those that its index tells. "
        f"Received: '{path}', which is damaged or of another set ({what}). Make the "
        "folder again."
    )


class _File:
    """A `.npy` file that grows."""

    def __init__(
        self, folder: pathlib.Path, name: str, dtype: Any, shape: tuple[int, ...]
    ) -> None:
        self._file = (folder / f"{name}.npy").open("xb")
        self._dtype, self._shape, self._rows = np.dtype(dtype), shape, 0
        self.digest = hashlib.sha256()

    def __enter__(self) -> "_File":
        self._header()
        return self

    def append(self, rows: NDArray) -> None:
        data = np.ascontiguousarray(rows, self._dtype).data
        self._file.write(data)
        self.digest.update(data)
        self._rows += len(rows)

    def __exit__(
        self, kind: type | None, *_: BaseException | TracebackType | None
    ) -> None:
        # NumPy leaves room for the length in the header.
        if kind is None:
            self._file.seek(0)
            self._header()
        self._file.close()

    def _header(self) -> None:
        header = {
            "descr": npy.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._shape),
        }
        npy.write_array_header_1_0(self._file, header)
