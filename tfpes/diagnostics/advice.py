"""Advice in sentences, each with the number that it rests on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpes.data import Structures
from tfpes.diagnostics.findings import Diagnosis
from tfpes.diagnostics.model_advice import (
    ENOUGH,
    errors_of_model,
    known_energies,
    worse_groups,
)
from tfpes.diagnostics.outlier_advice import MISSING, advise_on_outliers
from tfpes.diagnostics.units import advise_on_units
from tfpes.elements import SYMBOLS, join_symbols
from tfpes.evaluation import Errors

_FEW = 10  # structures with an element
_UNEVEN = 2.0  # ratio of the RMS E' of two sizes
_OFF = 0.1  # difference of two shares
_HEAVY = 6.0  # kurtosis
_SETTLED = 4.0  # exponent of a tail above which the mean fourth power is finite
_MOST = 0.5  # share of one structure


def advise(diagnosis: Diagnosis) -> tuple[list[str], list[str]]:
    """Return what to do about a data set, and errors of a model on it; what to know."""
    found = advise_on_outliers(diagnosis.outliers, len(diagnosis.structures))
    missing = [found.pop(kind) for kind in MISSING if kind in found]
    contradiction = found.pop("two energies", None)
    # What is wrong spoils all that comes after it.
    to_do = [
        *filter(None, [contradiction]),
        *advise_on_units(diagnosis.structures),
        *found.values(),
        *_tails(diagnosis),
        *_rare_elements(diagnosis.labels.by_element),
    ]
    to_know = [
        *_size_law(diagnosis.report),
        *_sizes(diagnosis.labels.by_size),
        *_energy_shares(diagnosis),
        *_force_shares(diagnosis),
        *_pressure(diagnosis),
        *_ratio(diagnosis),
        *_undetermined(diagnosis),
        *_config_types(diagnosis.labels.by_config_type),
        *missing,
    ]
    if diagnosis.errors is not None:
        to_do += worse_groups(diagnosis.errors)
        to_know = errors_of_model(diagnosis.errors) + to_know
    return to_do, to_know


def _size_law(report: dict[str, Any]) -> list[str]:
    sizes, law = report["structures"], report["fit"]["size_law"]
    if sizes["smallest"] == sizes["largest"]:
        return [
            f"All structures have {sizes['smallest']} atoms: every size law gives the "
            "same loss up to a factor. Do not expect these statistics to hold for "
            "other sizes."
        ]
    exponent = report["standardized_energy"]["size_exponent"]
    if exponent is None:
        return []
    low, high = exponent["low"], exponent["high"]
    text = (
        f"The variance of the energies grows as N^p with p = {exponent['exponent']:.2f}"
        f" [{low:.2f}, {high:.2f}] (1 if atoms deviate independently, 2 if together)"
    )
    if law == "collective":
        end = "deviations are collective. Use `--size-law collective`, or auto."
        if low > 2:
            end += (
                " Above 2, large cells are also of another kind than small ones: see "
                "the table by config_type and by size."
            )
    elif low <= 1 <= high:
        end = "√N is right here. Use `--size-law independent`, or auto."
    elif low > 1:
        end = (
            "more than √N, but the collective law does not fit clearly better; auto "
            "keeps the independent one. Mind the RMS of E' of the largest structures "
            "in the table by size."
        )
    else:
        end = (
            "less than √N: large structures are more alike than small ones; auto "
            "keeps the independent law, under which they weigh less; see the table by "
            "size."
        )
    return [f"{text}: {end}"]


def _sizes(rows: Sequence[Errors]) -> list[str]:
    """Say how far the scale is from right for some sizes, whatever the law."""
    known = known_energies(rows)
    if len(known) < 2:
        return []
    (low, smallest), *_, (high, largest) = sorted(known, key=lambda pair: pair[1])
    if largest < _UNEVEN * smallest:
        return []
    return [
        f"With that law, RMS E' still goes from {smallest:.2f} ({low.name} atoms) to "
        f"{largest:.2f} ({high.name} atoms): the former weigh less in a standardized "
        "loss than the latter. If they matter as much to you, give them weights, by "
        "`--config-weights` or in the file."
    ]


def _energy_shares(diagnosis: Diagnosis) -> list[str]:
    part, by_size = diagnosis.shares.get("energy"), diagnosis.labels.by_size
    total, atoms = diagnosis.labels.overall.structures, diagnosis.labels.overall.atoms
    if part is None or len(by_size) < 2:
        return []
    own = part["losses"][diagnosis.report["fit"]["size_law"]]["gradient"]["by_size"]
    sentences = []
    for name in ("raw", "per atom"):
        shares = part["losses"][name]["gradient"]["by_size"]
        # Each structure would count once if the loss were even.
        rows = [row for row in by_size if row.name in shares]
        worst = max(rows, key=lambda row: shares[row.name] - row.structures / total)
        of_structures = worst.structures / total
        if shares[worst.name] - of_structures < _OFF:
            continue
        label = "A total-energy loss" if name == "raw" else "A per-atom energy loss"
        sentences.append(
            f"{label} would take {shares[worst.name]:.1%} of its squared gradient from "
            f"structures of {worst.name} atoms, which are {of_structures:.1%} of the "
            f"structures and hold {worst.atoms / atoms:.1%} of the atoms; the "
            f"standardized loss takes {own[worst.name]:.1%}."
        )
    return sentences


def _force_shares(diagnosis: Diagnosis) -> list[str]:
    part = diagnosis.shares.get("forces")
    if part is None or len(diagnosis.labels.by_element) < 2:
        return []
    raw = part["losses"]["raw"]["gradient"]["by_element"]
    own = part["losses"]["standardized"]["gradient"]["by_element"]
    count = part["count"]["by_element"]
    worst = max(raw, key=lambda symbol: raw[symbol] - count[symbol])
    if raw[worst] - count[worst] < _OFF:
        return []
    return [
        f"A force loss in eV/Å would take {raw[worst]:.1%} of its squared gradient "
        f"from {worst}{_one_frame(diagnosis.structures, worst)}, {count[worst]:.1%} of "
        f"the forces; the standardized one takes {own[worst]:.1%}."
    ]


def _one_frame(structures: Structures, symbol: str) -> str:
    """Name the structure that holds most of the squared forces of an element."""
    own = structures.atomic_numbers == SYMBOLS.index(symbol)
    squares = np.nansum(structures.forces[own].astype(float) ** 2, axis=1)
    sums = np.bincount(structures.structure_index[own], squares)
    if sums.max() < _MOST * sums.sum():
        return ""
    return f" ({sums.max() / sums.sum():.1%} of it from structure {sums.argmax()})"


def _pressure(diagnosis: Diagnosis) -> list[str]:
    if diagnosis.pressure is None:
        return []
    raw, own = diagnosis.pressure
    return [
        f"The pressure is {raw:.1%} of the squared virials, and would be as much of a "
        f"loss in eV²; of the standardized ones it is {own:.1%}, one component of six."
    ]


def _undetermined(diagnosis: Diagnosis) -> list[str]:
    seen = diagnosis.normalization.seen.numpy()
    unknown = [z for z in diagnosis.structures.elements.tolist() if not seen[z]]
    if not unknown:
        return []
    return [
        f"No energy, but of isolated atoms, tells the mean energy of "
        f"{join_symbols(unknown)}: `tfpes train` leaves out structures with it."
    ]


def _ratio(diagnosis: Diagnosis) -> list[str]:
    values = {balance.name: balance for balance in diagnosis.balances}
    if not values:
        return []
    raw, own = values["raw"], values["standardized"]
    return [
        "At an energy : forces ratio of 1 : 1, a model that knows only the composition "
        f"starts with {own.energy:.3g} : {own.forces:.3g} = {own.ratio:.3g} if "
        "standardized: start there (`--energy-weight 1`). With raw total energies it "
        f"is {raw.energy:.3g} : {raw.forces:.3g} = {raw.ratio:.3g}, per atom "
        f"{values['per atom'].ratio:.3g}; "
        "the same balance needs an energy weight of "
        f"{1 / raw.ratio:.3g} or {1 / values['per atom'].ratio:.3g}."
    ]


def _rare_elements(rows: Sequence[Errors]) -> list[str]:
    rare = [row for row in rows if row.structures < _FEW]
    if not rare:
        return []
    names = ", ".join(f"{row.name} ({row.structures})" for row in rare)
    subject = "1 element is" if len(rare) == 1 else f"{len(rare)} elements are"
    return [
        f"{subject} in fewer than {_FEW} structures: {names}. Their μ rests on these "
        "few, and their σ mostly on the other elements; keep them in the training "
        "part of a split, and do not trust errors on them. Add data, or leave them "
        "out."
    ]


def _tails(diagnosis: Diagnosis) -> list[str]:
    shape, sentences = diagnosis.shape, []
    if shape.gap:
        gap = shape.gap
        sentences.append(
            f"No E' lies between {gap.low:.2f} and {gap.high:.2f}: {gap.below} "
            f"structures are below, {gap.above} above. If these are not two kinds of "
            "matter, labels of two references or units were mixed; compare the "
            "energies in the table by config_type."
        )
    if shape.energy_kurtosis > _HEAVY:
        sentences.append(
            f"The kurtosis of E' is {shape.energy_kurtosis:.3g} (3 if normal): "
            f"{shape.half_of_energies} of {shape.energies} structures hold half of the "
            "sum of E'², and would rule a squared energy loss. Use `--metric huber` or "
            "mae."
        )
    tail = shape.force_tail
    if tail is not None and tail.high < _SETTLED:
        sentences.append(
            f"|F'| has the tail of a power law with exponent {tail.exponent:.2f}, at "
            f"most {tail.high:.2f}: below 4, single structures rule a squared force "
            f"loss. Here 1 % of the atoms hold {shape.top_share:.1%} of the sum of "
            f"F'², and {shape.half_of_forces} of {len(diagnosis.structures)} "
            "structures half of it. Use `--metric huber`, unless these are what "
            "matters."
        )
    if shape.structures_without_force:
        number, total = shape.structures_without_force, len(diagnosis.structures)
        sentences.append(
            f"In {number} of {total} structures of several atoms all forces are 0. By "
            "symmetry that is right; if these structures are not symmetric, forces "
            "were not computed: set them to NaN."
        )
    return sentences


def _config_types(rows: Sequence[Errors]) -> list[str]:
    # What a model that says 0 is off by is minus the mean of the labels.
    means = [
        (row.name, -(row.standardized_energy_mean or 0.0))
        for row in rows
        if row.energies >= ENOUGH
    ]
    far = sorted((m for m in means if abs(m[1]) > 1), key=lambda m: -abs(m[1]))
    if not far or len(rows) < 2:
        return []
    names = ", ".join(f"{name} ({mean:+.2f})" for name, mean in far[:8])
    return [
        f"Mean E' of {len(far)} of {len(rows)} config_types is beyond ±1: {names}. "
        "Their energies differ from what their composition says as a whole; split by "
        "config_type to see whether a model transfers to them."
    ]
