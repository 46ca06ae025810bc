"""Statistics as a JSON file that people and programs can read."""

import dataclasses
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
from tfpes.statistics.fit.options import FitOptions

_FORMAT = "tfpes.statistics"
_VERSION = 2
_PER_ELEMENT = (
    "energy_mean",
    "energy_variance",
    "force_scale",
    "pressure_mean",
    "pressure_scale",
    "virial_scale",
)
_COLLECTIVE = (
    "collective_variance",
    "collective_pressure_variance",
    "collective_virial_variance",
)
_UNITS = {
    "energy_mean": "eV",
    "energy_variance": "eV²",
    **dict.fromkeys(_COLLECTIVE, "eV²"),
    "force_scale": "eV/Å, RMS of the components; 0 if there is none",
    "pressure_mean": "eV, of a third of the trace of the virial",
    "pressure_scale": "eV, of a third of the trace of the virial; 0 if there is none",
    "virial_scale": "eV, of the virial without its trace; 0 if there is none",
}
_FITTED_LAWS = ("independent", "collective")
_WAY_OUT = "Write it again with `PESNormalization.to_json` or `tfpes stats --save`."


def write_statistics(
    path: str | os.PathLike[str],
    statistics: Mapping[str, NDArray],
    options: FitOptions,
    given: Mapping[str, Any],
    report: Mapping[str, Any] | None,
) -> None:
    """Write a file of statistics, in one step.

    Args:
        path: of the file.
        statistics: weights of the layer by name.
        options: how they were, or are to be, fitted.
        given: statistics that were given rather than learned.
        report: as a dict, or None.
    """
    others = {name: _most_common(statistics[name][1:]) for name in _PER_ELEMENT}
    elements = {}
    for z in range(1, NUMBER_OF_COLUMNS):
        values = {name: float(statistics[name][z]) for name in _PER_ELEMENT}
        known = bool(statistics["seen"][z])
        if known or values != others:
            elements[SYMBOLS[z]] = {"known": known, **values}
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "units": _UNITS,
        "options": dataclasses.asdict(options),
        "given": dict(given),
        **{name: float(statistics[name]) for name in _COLLECTIVE},
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
) -> tuple[dict[str, NDArray], FitOptions, dict[str, Any], dict[str, Any] | None]:
    """Read what :func:`write_statistics` wrote.

    Returns:
        statistics, options, given and report, as they were.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file of statistics, a newer or a damaged one.
    """
    content = _load(path)
    try:
        names = [field.name for field in dataclasses.fields(FitOptions)]
        if content["version"] == 1:
            content = _from_one_scale(content)
        options = FitOptions(**{name: content["options"][name] for name in names})
        names = [*_PER_ELEMENT, "collective_variance"]
        given = {name: content["given"][name] for name in names}
        report = content["report"]
        if report is not None and not {"fit", "structures", "warnings"} <= set(report):
            raise ValueError("the report is incomplete")
        if report is not None and report["fit"]["size_law"] not in _FITTED_LAWS:
            raise ValueError(f"unknown size law {report['fit']['size_law']!r}")
        return _statistics(content), options, given, report
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
    if found != _FORMAT:
        raise ValueError(
            f'A file of statistics says `"format": "{_FORMAT}"`. Received: '
            f"'{path}', which says {found!r}. Name a file that "
            "`PESNormalization.to_json` or `tfpes stats --save` wrote."
        )
    version = content.get("version")
    if not isinstance(version, int) or not 1 <= version <= _VERSION:
        raise ValueError(
            f"This release of tfpes reads statistics of version {_VERSION} or older. "
            f"Received: '{path}' of version {version!r}. Update tfpes, or make the "
            "file again with this release."
        )
    return content


def _from_one_scale(content: dict[str, Any]) -> dict[str, Any]:
    """Return a file of version 1 as one of version 2 with the same losses.

    There, the loss was the mean over nine entries of ``W / √(Σ n_z τ_z²)``.
    """

    def changed(entry: dict[str, Any]) -> dict[str, Any]:
        tau = _number(entry["virial_scale"], "virial_scale")
        new = {"virial_scale": tau * 1.5**0.5, "pressure_scale": tau * 0.5**0.5}
        return {**entry, **new, "pressure_mean": 0.0}

    given = content["given"]
    virial = given["virial_scale"] and {
        symbol: _number(tau, "virial_scale") * 1.5**0.5
        for symbol, tau in given["virial_scale"].items()
    }
    none = {"pressure_mean": None, "pressure_scale": None}
    return {
        **content,
        **dict.fromkeys(_COLLECTIVE[1:], 0.0),
        "elements": {key: changed(e) for key, e in content["elements"].items()},
        "other_elements": changed(content["other_elements"]),
        "given": {**given, **none, "virial_scale": virial},
    }


def _statistics(content: dict[str, Any]) -> dict[str, NDArray]:
    others, elements = content["other_elements"], content["elements"]
    unknown = sorted(set(elements) - set(SYMBOLS[1:]))
    if unknown:
        raise ValueError(f"unknown elements {', '.join(unknown)}")
    statistics = {name: np.array(_number(content[name], name)) for name in _COLLECTIVE}
    for name in _PER_ELEMENT:
        values = np.full(NUMBER_OF_COLUMNS, _number(others[name], name))
        for symbol, entry in elements.items():
            values[SYMBOLS.index(symbol)] = _number(entry[name], f"{name} of {symbol}")
        if name.startswith("energy") or name == "pressure_mean":
            values[0] = 0.0
        statistics[name] = values
    seen = np.zeros(NUMBER_OF_COLUMNS)
    for symbol, entry in elements.items():
        seen[SYMBOLS.index(symbol)] = bool(entry["known"])
    for name in ("energy_variance", "force_scale", "pressure_scale", "virial_scale"):
        values = statistics[name][1:]
        # All of them are 0 where there are no statistics of that label.
        if (values < 0).any() or (values == 0).any() != (values == 0).all():
            raise ValueError(f"{name} is not positive")
    for name in _COLLECTIVE:
        if statistics[name] < 0:
            raise ValueError(f"{name} is negative")
    return {**statistics, "seen": seen}


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return float(value)
