"""The report on a data set: what was seen, what was fitted, what to mind."""

import copy
import dataclasses
from typing import Any

import numpy as np

from tfpes.elements import SYMBOLS, join_symbols
from tfpes.statistics.fit.results import EnergyFit, ScaleFit
from tfpes.statistics.fit.scales import VirialFit
from tfpes.statistics.report.goodness import (
    SizeExponent,
    Standardized,
    size_exponent,
    standardized,
)
from tfpes.statistics.report.text import report_text
from tfpes.statistics.report.warnings import (
    combination,
    energy_warnings,
    force_warnings,
    rare_elements,
    scale_warnings,
)
from tfpes.statistics.tables.atoms import AtomicTable
from tfpes.statistics.tables.compositions import CompositionTable
from tfpes.statistics.tables.rows import Rows


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """Statistics of a data set, to print or to store.

    ``str(report)`` is a plain-text table.

    Args:
        content: nested dicts and lists of plain Python values; `as_dict` returns a
            copy.
        warnings: what to mind, why, and what to do.
    """

    content: dict[str, Any]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        return {**copy.deepcopy(self.content), "warnings": list(self.warnings)}

    def __str__(self) -> str:
        """Return a plain-text table."""
        return report_text(self.content, self.warnings)


def make_report(
    table: CompositionTable,
    fit: EnergyFit,
    *,
    forces: AtomicTable | None = None,
    force_fit: ScaleFit | None = None,
    virial: CompositionTable | None = None,
    virial_fit: VirialFit | None = None,
) -> Report:
    """Report on the energies, and on forces and virials if given.

    Args:
        table: of energies.
        fit: to that table.
        forces: table of forces.
        force_fit: to that table.
        virial: table of the pressures.
        virial_fit: scales of virials.
    """
    rows = table.rows(isolated=fit.part)
    moments = standardized(rows, fit)
    exponent = size_exponent(rows, fit)
    left_out = 0 if fit.part is None else table.isolated_structures
    warnings = energy_warnings(rows, left_out, fit, moments, exponent)
    size, number = rows.size, rows.structures_per_element()
    content: dict[str, Any] = {
        "structures": {
            **table.counts_seen,
            "isolated": table.isolated_structures,
            "used": int(rows.number.sum()),
            "weight": fit.structures,
            "atoms": float(np.sum(rows.weight * size)),
            "smallest": int(size.min()),
            "largest": int(size.max()),
            "compositions": fit.compositions,
        },
        "fit": _fit(rows, fit),
        "standardized_energy": _moments(moments, exponent),
    }
    error, kappa = fit.deviation_error, fit.collective_variance
    elements: dict[str, dict[str, Any]] = {
        SYMBOLS[z]: {
            "structures": int(number[z]),
            "energy_mean": float(fit.mean[z]),
            "energy_deviation": float(np.sqrt(fit.variance[z])),
            "energy_deviation_error": _finite(float(error[z])),
            "spread_of_an_atom": float(np.sqrt(fit.variance[z] + kappa)),
            "given_mean": bool(fit.given_mean[z]),
            "given_variance": bool(fit.given_variance[z]),
        }
        for z in np.flatnonzero(fit.seen)
    }
    if forces is not None and force_fit is not None:
        warnings += force_warnings(force_fit)
        content["forces"] = {
            "atoms": int(forces.atoms[1:].sum()),
            "missing": int(forces.missing[1:].sum()),
            "scale": force_fit.pooled_scale,
            "largest": float(forces.largest[1:].max()),
            "largest_element": SYMBOLS[int(np.argmax(forces.largest))],
            "largest_share": force_fit.largest_share,
            "degenerate": force_fit.degenerate,
        }
        _add(elements, "force_scale", force_fit)
    if virial is not None and virial_fit is not None:
        parts = {"pressure": virial_fit.pressure, "virial": virial_fit.deviator}
        for name, part in parts.items():
            shown = "pressures" if name == "pressure" else "shears"
            warnings += scale_warnings(f"{shown} of virials", part.degenerate, name)
            for z in np.flatnonzero(part.seen):
                scale = float(np.sqrt(part.variance[z]))
                elements.setdefault(SYMBOLS[z], {})[f"{name}_scale"] = scale
        content["virial"] = {
            "structures": virial.structures,
            "missing": virial.counts_seen["missing"],
            **{
                name: {
                    "scale": float(np.sqrt(part.pooled_variance)),
                    "collective_deviation": float(np.sqrt(part.collective_variance)),
                    "degenerate": part.degenerate,
                }
                for name, part in zip(
                    ("pressure", "shear"), parts.values(), strict=True
                )
            },
        }
    content["elements"] = dict(
        sorted(elements.items(), key=lambda item: SYMBOLS.index(item[0]))
    )
    return Report(content, warnings)


def _fit(rows: Rows, fit: EnergyFit) -> dict[str, Any]:
    return {
        "size_law": fit.size_law,
        "rank": fit.rank,
        "elements": int(fit.seen.sum()),
        "undetermined": [
            {SYMBOLS[z]: str(value) for z, value in sorted(c.items())}
            for c in fit.undetermined
        ],
        "undetermined_text": [combination(c) for c in fit.undetermined],
        "ill_conditioned": fit.ill_conditioned,
        "rare_elements": join_symbols(rare_elements(rows, fit)),
        "degenerate": fit.degenerate,
        "iterations": fit.iterations,
        "converged": fit.converged,
        "clipped": fit.clipped,
        "pooled_deviation": float(np.sqrt(fit.pooled_variance)),
        "collective_deviation": float(np.sqrt(fit.collective_variance)),
        "laws": {
            name: {
                "log_likelihood": law.log_likelihood,
                "collective_variance": law.collective_variance,
                "collective_variance_error": _finite(law.collective_error),
                "pooled_variance": law.pooled_variance,
            }
            for name, law in fit.laws.items()
        },
    }


def _moments(moments: Standardized, exponent: SizeExponent | None) -> dict[str, Any]:
    worst = moments.largest_composition
    return {
        "mean_square": moments.mean_square,
        "kurtosis": _finite(moments.kurtosis),
        "largest": moments.largest,
        "largest_composition": {SYMBOLS[z]: n for z, n in worst.items()},
        "by_size": [dataclasses.asdict(size_bin) for size_bin in moments.bins],
        "size_exponent": dataclasses.asdict(exponent) if exponent else None,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _add(elements: dict[str, dict[str, Any]], name: str, fit: ScaleFit) -> None:
    for z in np.flatnonzero(fit.seen):
        elements.setdefault(SYMBOLS[z], {})[name] = float(fit.scale[z])
