"""``config.json``: what a run was told, in order to tell it again."""

import dataclasses
import json
import os
import pathlib
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data import Structures
from tfpes.elements import join_symbols
from tfpes.files import write_json
from tfpes.training.options import Options, check, flag
from tfpes.training.reading import fingerprint

_CONFIG = "config.json"
TRAINED_ON = (
    "{} of these structures are those that the model was trained or validated on: "
    "their errors say little of new ones."
)
"""To say so."""
_STRUCTURES = "trained_on.json"
_PACKAGES = ("tfpes", "tensorflow", "keras", "numpy", "ase")
_PATHS = ("data", "valid", "test", "start", "stats")


def write_config(
    folder: pathlib.Path, options: Options, parts: dict[str, Structures]
) -> None:
    """Write options, fingerprints of the data and versions, and what is trained on."""
    known = {name: parts[name].hashes.tolist() for name in ("train", "valid")}
    write_json(folder / _STRUCTURES, known)
    write_json(
        folder / _CONFIG,
        {
            "options": _normalize(dataclasses.asdict(options)),
            "structures": {name: len(part) for name, part in parts.items()},
            "fingerprints": {name: fingerprint(part) for name, part in parts.items()},
            "elements": join_symbols(parts["train"].elements),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {
                **{name: version(name) for name in _PACKAGES},
                "python": platform.python_version(),
            },
        },
    )


def trained_on(model: str, structures: Structures) -> NDArray[np.bool_] | None:
    """Find structures that a model was trained or validated on, (S,).

    Args:
        model: a file or a folder in that of a run, or this folder.
        structures: to look for.

    Returns:
        None if there is no run that tells.

    Raises:
        ValueError: if the file with the structures is damaged.
    """
    path = pathlib.Path(model).resolve()
    files = [folder / _STRUCTURES for folder in (path, path.parent)]
    file = next(filter(pathlib.Path.is_file, files), None)
    if file is None:
        return None
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        names = [str(name) for part in ("train", "valid") for name in known[part]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "A run lists the structures that it was trained on. Received: "
            f"'{file}', which is damaged or of something else ({error}). Delete it to "
            "go without."
        ) from error
    return np.isin(structures.hashes, names)


def read_config(
    folder: pathlib.Path, given: Mapping[str, Any]
) -> tuple[Options, dict[str, str]]:
    """Read what a run was told.

    Args:
        folder: of the run.
        given: options that must not contradict.

    Returns:
        The options, and the fingerprint of each part of the data.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if the file was not written by this version, or an option differs.
    """
    path = folder / _CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            "`--resume` goes on in the folder of a run. Received: "
            f"'{folder}', which has no {_CONFIG}. A run writes it when it has read its "
            "data; one that was stopped before has nothing to go on from."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        options = Options(**config["options"])
        check(options)
        for paths in (options.data, options.valid, options.test):
            iter(paths)
        fingerprints = dict(config["fingerprints"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`--resume` reads the options of a run. Received: '{path}', which this "
            f"version of tfpes, {version('tfpes')}, cannot read ({error}). Use the "
            "version that is named in it, or start a new run."
        ) from error
    recorded = dataclasses.asdict(options) | {"output": os.path.abspath(folder)}
    for name, value in _normalize(given).items():
        if value != recorded[name]:
            raise ValueError(
                "A run goes on with the options that it began with. Received: "
                f"`{flag(name)}` {value}, but the run in '{folder}' has "
                f"{recorded[name]}. Leave it out, or start a new run"
                f"{_advice(name, folder)}."
            )
    return options, fingerprints


def _normalize(options: Mapping[str, Any]) -> dict[str, Any]:
    """Write options as JSON has them, and paths such that they hold everywhere."""
    result: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in options.items()
    }
    for name in _PATHS:
        if result.get(name):
            result[name] = _absolute(result[name])
    if result.get("output"):
        result["output"] = os.path.abspath(str(result["output"]))
    return result


def _absolute(value: str | Sequence[str]) -> Any:
    if not isinstance(value, str):
        return [_absolute(part) for part in value]
    # The name of an embedded data set is no path.
    return os.path.abspath(value) if os.path.exists(value) else value


def _advice(name: str, folder: pathlib.Path) -> str:
    return f" with `--from {folder}`" if name in ("data", "epochs", "minutes") else ""
