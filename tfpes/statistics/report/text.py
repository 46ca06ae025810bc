"""Plain text of a report."""

import textwrap
from collections.abc import Sequence
from typing import Any

_WIDTH = 80
_LEFT_OUT = {
    "missing": "without energy",
    "weightless": "of weight 0",
    "empty": "without atoms",
    "isolated": "isolated atoms",
}
# Heading, unit, format.
_COLUMNS = {
    "structures": ("count", "", "d"),
    "energy_mean": ("mu", "eV", ".6g"),
    "energy_deviation": ("sigma", "eV", ".3g"),
    "energy_deviation_error": ("±", "eV", ".2g"),
    "spread_of_an_atom": ("atom", "eV", ".3g"),
    "force_scale": ("eta", "eV/Å", ".3g"),
    "pressure_scale": ("tau_p", "eV", ".3g"),
    "virial_scale": ("tau", "eV", ".3g"),
}
# Fewer structures in a bin say little.
_MANY = 20


def report_text(content: dict[str, Any], warnings: Sequence[str]) -> str:
    """Return the report as a plain-text table."""
    energies = content["standardized_energy"]
    sections = [
        textwrap.fill(_verdict(content, len(warnings)), _WIDTH),
        _pairs("Data", _data(content)),
        _pairs("Fit", _fit(content["fit"])),
        _pairs("Standardized energies E'", _energies(energies)),
        _by_size(energies["by_size"]),
        _elements(content["elements"], bool(content["fit"]["collective_deviation"])),
    ]
    if warnings:
        wrap = textwrap.TextWrapper(
            _WIDTH, initial_indent="  * ", subsequent_indent="    "
        )
        sections.append("\n".join(["Warnings", *map(wrap.fill, warnings)]))
    return "\n\n".join(sections)


def _verdict(content: dict[str, Any], warnings: int) -> str:
    """Return what the numbers below come to."""
    below = {0: "", 1: " One warning below."}.get(
        warnings, f" {warnings} warnings below."
    )
    if content["fit"]["degenerate"]:
        return f"No spread to estimate: energy losses are not standardized.{below}"
    law = content["fit"]["size_law"]
    bins = content["standardized_energy"]["by_size"]
    spread = [b["mean_square"] ** 0.5 for b in bins if b["structures"] >= _MANY]
    if not spread:
        return f"Few structures to tell how much each size counts ({law} law).{below}"
    low, high = min(spread), max(spread)
    # The factor in the mean square at which a warning comes.
    even = low > 3**-0.5 and high < 3**0.5
    head = "all sizes count about alike" if even else "some sizes count more"
    return (
        f"Structures of {head}: by size, the RMS of E' is {low:.2f} to {high:.2f} (1 "
        f"expected), with the {law} law.{below}"
    )


def _pairs(title: str, pairs: dict[str, str]) -> str:
    wrap = textwrap.TextWrapper(_WIDTH, subsequent_indent=" " * 30)
    lines = [wrap.fill(f"  {name:<28}{text}") for name, text in pairs.items()]
    return "\n".join([title, *lines])


def _table(header: list[str], body: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    lines = [
        "  " + "  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True))
        for row in [header, *body]
    ]
    return "\n".join(lines)


def _data(content: dict[str, Any]) -> dict[str, str]:
    data = content["structures"]
    left_out = ", ".join(f"{data[name]} {text}" for name, text in _LEFT_OUT.items())
    sizes = f"{data['smallest']} to {data['largest']} a structure"
    pairs = {
        "structures": f"{data['used']} used of {data['received']} ({left_out})",
        "atoms": f"{data['atoms']:.10g}, {sizes}",
        "distinct compositions": str(data["compositions"]),
    }
    if "forces" in content:
        forces = content["forces"]
        pairs["forces"] = (
            f"{forces['atoms']} atoms, {forces['missing']} without; RMS of the "
            f"components {forces['scale']:.4g} eV/Å"
        )
        if forces["largest"]:
            largest, element = forces["largest"], forces["largest_element"]
            pairs["forces"] += f", largest {largest:.4g} ({element})"
        if "largest_share" in forces:  # not in older files
            share = 100 * forces["largest_share"]
            pairs["forces"] += f"; 1 % of the atoms carry {share:.0f} % of ΣF²"
    if "virial" in content:
        virial = content["virial"]
        pairs["virials"] = (
            f"{virial['structures']} structures, {virial['missing']} without; scale "
            f"of one atom: {_parts(virial)}"
        )
    return pairs


def _parts(virial: dict[str, Any]) -> str:
    if "pressure" not in virial:  # version 1 had one scale for both
        return f"{virial['scale']:.4g} eV"
    texts = []
    for name in ("pressure", "shear"):
        part = virial[name]
        kappa = part["collective_deviation"]
        text = f"{name} {part['scale']:.4g} eV"
        texts.append(text + f" (collective {kappa:.4g} eV)" * bool(kappa))
    return ", ".join(texts)


def _fit(fit: dict[str, Any]) -> dict[str, str]:
    pairs = {
        "size law": fit["size_law"],
        "rank": f"{fit['rank']} of {fit['elements']} elements",
    }
    if fit["undetermined_text"]:
        pairs["undetermined"] = "; ".join(fit["undetermined_text"])
    if fit["rare_elements"]:
        pairs["in fewer than 3 structures"] = fit["rare_elements"]
    if fit["degenerate"]:
        return pairs | {"degenerate": "yes: no spread to estimate, sigma = 1"}
    pairs["pooled sigma"] = f"{fit['pooled_deviation']:.4g} eV"
    pairs["kappa"] = f"{fit['collective_deviation']:.4g} eV"
    for name, law in fit["laws"].items():
        text = f"{law['log_likelihood']:.2f}"
        if name == "collective":
            text += f" (kappa {law['collective_variance'] ** 0.5:.4g} eV)"
        pairs[f"log-likelihood {name}"] = text
    pairs["iterations"] = str(fit["iterations"])
    if fit["clipped"]:
        pairs["pulled in (robust)"] = f"{fit['clipped']} structures"
    return pairs


def _energies(data: dict[str, Any]) -> dict[str, str]:
    composition = " ".join(
        symbol if n == 1 else f"{symbol}{n}"
        for symbol, n in data["largest_composition"].items()
    )
    kurtosis = data["kurtosis"]
    pairs = {
        "mean square": f"{data['mean_square']:.4g} (1 expected)",
        "kurtosis": "none" if kurtosis is None else f"{kurtosis:.4g} (3 if normal)",
        "largest": f"{data['largest']:.4g} ({composition})",
    }
    if exponent := data["size_exponent"]:
        p, low, high = (exponent[name] for name in ("exponent", "low", "high"))
        pairs["size exponent p"] = (
            f"{p:.2f} [{low:.2f}, {high:.2f}] (variance ~ N^p; 1 independent, "
            "2 collective)"
        )
    return pairs


def _by_size(bins: list[dict[str, Any]]) -> str:
    body = [
        [
            f"{b['smallest']}-{b['largest']}",
            f"{b['structures']:.10g}",
            f"{b['mean_square']:.3g}",
        ]
        for b in bins
    ]
    return _table(["atoms", "structures", "mean E'²"], body)


def _elements(elements: dict[str, dict[str, Any]], collective: bool) -> str:
    used = [name for name in _COLUMNS if any(name in v for v in elements.values())]
    if not collective:
        # It is sigma.
        used = [name for name in used if name != "spread_of_an_atom"]
    body = []
    for symbol, values in elements.items():
        name = symbol + "*" * bool(values.get("given_mean"))
        body.append([name, *(_cell(values, column) for column in used)])
    units = ["", *(_COLUMNS[name][1] for name in used)]
    text = _table(["element", *(_COLUMNS[name][0] for name in used)], [units, *body])
    if any(values.get("given_mean") for values in elements.values()):
        text += "\n  * mean given, not fitted"
    if "spread_of_an_atom" in used:
        text += "\n  atom: √(sigma² + kappa²), the spread of one atom"
    return text


def _cell(values: dict[str, Any], column: str) -> str:
    if column not in values:
        return "-"
    if values[column] is None:
        return "(given)" if values.get("given_variance") else "(floor)"
    return format(values[column], _COLUMNS[column][2])
