"""Statistics as a JSON file that people and programs can read."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.elements import NUMBER_OF_COLUMNS, SYMBOLS
from tfpes.files import write_json

FORMAT = "tfpes.statistics"
VERSION = 1
PER_ELEMENT = ("energy_mean", "energy_variance", "force_scale", "virial_scale")
OPTIONS = {
    "size_law": str,
    "per_element": bool,
    "prior_strength": float,
    "robust": bool,
    "isolated_atoms": str,
}
"""Options of the layer that the file holds, and their types."""

_WAY_OUT = "Write it again with `PESNormalization.to_json` or `tfpes stats --save`."


def write_statistics(
    path: str | os.PathLike[str],
    statistics: Mapping[str, NDArray],
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    report: Mapping[str, Any] | None,
) -> None:
    """Write a file of statistics, in one step.

    Args:
        path: of the file.
        statistics: weights of the layer by name.
        options: by name, see `OPTIONS`.
        given: statistics that were given rather than learned.
        report: as a dict, or None.
    """
    others = {name: _most_common(statistics[name][1:]) for name in PER_ELEMENT}
    elements = {}
    for z in range(1, NUMBER_OF_COLUMNS):
        values = {name: float(statistics[name][z]) for name in PER_ELEMENT}
        known = bool(statistics["seen"][z])
        if known or values != others:
            elements[SYMBOLS[z]] = {"known": known, **values}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "units": {
            "energy_mean": "eV",
            "energy_variance": "eV²",
            "collective_variance": "eV²",
            "force_scale": "eV/Å, RMS of the components; 0 if there is none",
            "virial_scale": "eV; 0 if there is none",
        },
        "options": {name: options[name] for name in OPTIONS},
        "given": dict(given),
        "collective_variance": float(statistics["collective_variance"]),
        "elements": elements,
        "other_elements": others,
        "report": None if report is None else dict(report),
    }
    write_json(path, content)


def _most_common(values: NDArray) -> float:
    found, number = np.unique(values, return_counts=True)
    return float(found[np.argmax(number)])


def read_statistics(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray], dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Read what :func:`write_statistics` wrote.

    Returns:
        statistics, options, given and report, as they were.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file of statistics, a newer or a damaged one.
    """
    content = _load(path)
    try:
        return (
            _statistics(content),
            _options(content["options"]),
            {
                name: content["given"][name]
                for name in (*PER_ELEMENT, "collective_variance")
            },
            _report(content["report"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            "A file of statistics must hold what `PESNormalization.to_json` wrote. "
            f"Received: '{path}', which is damaged ({reason}). {_WAY_OUT}"
        ) from error


def _load(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(
            f"Statistics are read from a file that exists. Received: '{path}'. "
            "Check the path."
        )
    try:
        content = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise ValueError(
            f"A file of statistics is JSON. Received: '{path}', which cannot be read "
            f"({error}). {_WAY_OUT}"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(
            f'A file of statistics says `"format": "{FORMAT}"`. Received: '
            f"'{path}', which says {found!r}. Name a file that "
            "`PESNormalization.to_json` or `tfpes stats --save` wrote."
        )
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ValueError(
            f"This release of tfpes reads statistics of version {VERSION} or older. "
            f"Received: '{path}' of version {version!r}. Update tfpes, or make the "
            "file again with this release."
        )
    return content


def _statistics(content: dict[str, Any]) -> dict[str, NDArray]:
    others, elements = content["other_elements"], content["elements"]
    unknown = sorted(set(elements) - set(SYMBOLS[1:]))
    if unknown:
        raise ValueError(f"unknown elements {', '.join(unknown)}")
    statistics = {}
    for name in PER_ELEMENT:
        values = np.full(NUMBER_OF_COLUMNS, _number(others[name], name))
        for symbol, entry in elements.items():
            values[SYMBOLS.index(symbol)] = _number(entry[name], f"{name} of {symbol}")
        if name.startswith("energy"):
            values[0] = 0.0
        statistics[name] = values
    seen = np.zeros(NUMBER_OF_COLUMNS)
    for symbol, entry in elements.items():
        seen[SYMBOLS.index(symbol)] = bool(entry["known"])
    kappa = _number(content["collective_variance"], "collective_variance")
    if (
        kappa < 0
        or (statistics["energy_variance"][1:] <= 0).any()
        or (statistics["force_scale"] < 0).any()
        or (statistics["virial_scale"] < 0).any()
    ):
        raise ValueError("a variance or scale is negative")
    return {**statistics, "collective_variance": np.array(kappa), "seen": seen}


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return float(value)


def _options(content: dict[str, Any]) -> dict[str, Any]:
    options = {name: content[name] for name in OPTIONS}
    for name, value in options.items():
        kinds: Any = (int, float) if OPTIONS[name] is float else OPTIONS[name]
        if not isinstance(value, kinds):
            raise TypeError(f"option {name} is {value!r}")
    return options


def _report(content: Any) -> dict[str, Any] | None:
    if content is not None and not {"fit", "structures", "warnings"} <= set(content):
        raise ValueError("the report is incomplete")
    return content
