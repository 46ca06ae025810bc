"""Advice in sentences, each with the number that it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfpes.diagnostics import outlier_advice
from tfpes.diagnostics.model_advice import model_advice

if TYPE_CHECKING:
    from tfpes.diagnostics.diagnosis import Diagnosis

FEW = 10
"""Structures that an element should be in."""
ENOUGH = 5
"""Structures that a group needs for its mean or RMS to be taken seriously."""
# Sizes whose RMS E' differ by this factor are worth a sentence, ...
_UNEVEN = 2.0
# ... and so is a share that is off by this much.
_OFF = 0.1
_HEAVY = 6.0


def advise(diagnosis: Diagnosis) -> list[str]:
    """Return what to do about a data set, and about the errors of a model on it."""
    sentences = [
        *_size_law(diagnosis.report),
        *_sizes(diagnosis.by_size),
        *_energy_shares(diagnosis),
        *_force_shares(diagnosis),
        *_ratio(diagnosis),
        *_rare_elements(diagnosis),
        *_tails(diagnosis),
        *_config_types(diagnosis),
        *outlier_advice.advise(diagnosis.outliers, len(diagnosis.structures)),
    ]
    if diagnosis.errors is not None:
        sentences += model_advice(diagnosis.errors)
    return sentences


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
        end = "deviations are collective. Use `size_law='collective'`, or 'auto'."
        if low > 2:
            end += (
                " Above 2, large cells are also of another kind than small ones: see "
                "the table by config_type and by size."
            )
    elif low <= 1 <= high:
        end = "√N is right here. Use `size_law='independent'`, or 'auto'."
    elif low > 1:
        end = (
            "more than √N, but the collective law does not fit clearly better; 'auto' "
            "keeps the independent one. Mind the RMS of E' of the largest structures "
            "in the table by size."
        )
    else:
        end = (
            "less than √N: large structures are more alike than small ones. 'auto' "
            "keeps the independent law, under which they weigh less; see the table by "
            "size."
        )
    return [f"{text}: {end}"]


def _sizes(rows: list[dict[str, Any]]) -> list[str]:
    """Say how far the scale is from right for some sizes, whatever the law."""
    known = [row for row in rows if row["energies"] >= ENOUGH and row["energy_rms"]]
    if len(known) < 2:
        return []
    low = min(known, key=lambda row: row["energy_rms"])
    high = max(known, key=lambda row: row["energy_rms"])
    if high["energy_rms"] < _UNEVEN * low["energy_rms"]:
        return []
    return [
        f"With that law, RMS E' still goes from {low['energy_rms']:.2f} "
        f"({low['name']} atoms) to {high['energy_rms']:.2f} ({high['name']} atoms): "
        "the former weigh less in a standardized loss than the latter. If they matter "
        "as much to you, give them sample weights."
    ]


def _energy_shares(diagnosis: Diagnosis) -> list[str]:
    part = diagnosis.shares.get("energy")
    if part is None or len(diagnosis.by_size) < 2:
        return []
    own = part["losses"][diagnosis.report["fit"]["size_law"]]["gradient"]["by_size"]
    sentences = []
    for name in ("raw", "per atom"):
        shares = part["losses"][name]["gradient"]["by_size"]
        rows = [row for row in diagnosis.by_size if row["name"] in shares]
        # Each structure would count once if the loss were even.
        worst = max(rows, key=lambda row: shares[row["name"]] - row["structure_share"])
        bin_name = worst["name"]
        if shares[bin_name] - worst["structure_share"] < _OFF:
            continue
        label = "A total-energy loss" if name == "raw" else "A per-atom energy loss"
        sentences.append(
            f"{label} would take {shares[bin_name]:.1%} of its squared gradient from "
            f"structures of {bin_name} atoms, which are {worst['structure_share']:.1%} "
            f"of the structures and hold {worst['atom_share']:.1%} of the atoms; the "
            f"standardized loss takes {own[bin_name]:.1%}."
        )
    return sentences


def _force_shares(diagnosis: Diagnosis) -> list[str]:
    part = diagnosis.shares.get("forces")
    if part is None or len(diagnosis.by_element) < 2:
        return []
    raw = part["losses"]["raw"]["gradient"]["by_element"]
    own = part["losses"]["standardized"]["gradient"]["by_element"]
    count = part["count"]["by_element"]
    worst = max(raw, key=lambda symbol: raw[symbol] - count[symbol])
    if raw[worst] - count[worst] < _OFF:
        return []
    return [
        f"A force loss in eV/Å would take {raw[worst]:.1%} of its squared gradient "
        f"from {worst}, {count[worst]:.1%} of the forces; the standardized one takes "
        f"{own[worst]:.1%}."
    ]


def _ratio(diagnosis: Diagnosis) -> list[str]:
    values = {balance.name: balance for balance in diagnosis.balances}
    if not values:
        return []
    raw, own = values["raw"], values["standardized"]
    return [
        "At an energy : forces ratio of 1 : 1, a model that knows only the composition "
        f"starts with {own.energy:.3g} : {own.forces:.3g} = {own.ratio:.3g} if "
        f"standardized: start there. With raw total energies it is {raw.energy:.3g} : "
        f"{raw.forces:.3g} = {raw.ratio:.3g}, per atom {values['per atom'].ratio:.3g}; "
        "the same balance needs an energy weight of "
        f"{1 / raw.ratio:.3g} or {1 / values['per atom'].ratio:.3g}."
    ]


def _rare_elements(diagnosis: Diagnosis) -> list[str]:
    rare = [row for row in diagnosis.by_element if row["structures"] < FEW]
    if not rare:
        return []
    names = ", ".join(f"{row['name']} ({row['structures']})" for row in rare)
    subject = "1 element is" if len(rare) == 1 else f"{len(rare)} elements are"
    return [
        f"{subject} in fewer than {FEW} structures: {names}. Their μ rests on these "
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
            "sum of E'², and would rule a squared energy loss. Use `metric='huber'` or "
            "'mae' for the energies."
        )
    if shape.force_kurtosis > _HEAVY:
        sentences.append(
            f"The kurtosis of F' is {shape.force_kurtosis:.3g} (3 if normal), and 1 % "
            f"of the atoms hold {shape.top_share:.1%} of the sum of F'²; half of it is "
            f"in {shape.half_of_forces} of {len(diagnosis.structures)} structures, "
            "which would rule a squared force loss. Use `metric='huber'` or 'l2' for "
            "the forces, unless these are what matters."
        )
    if shape.structures_without_force:
        number, total = shape.structures_without_force, len(diagnosis.structures)
        sentences.append(
            f"In {number} of {total} structures of several atoms all forces are 0. By "
            "symmetry that is right; if these structures are not symmetric, forces "
            "were not computed: set them to NaN."
        )
    return sentences


def _config_types(diagnosis: Diagnosis) -> list[str]:
    if len(diagnosis.by_config_type) < 2:
        return []
    far = [
        row
        for row in diagnosis.by_config_type
        if row["energies"] >= ENOUGH and abs(row["energy_mean"]) > 1
    ]
    if not far:
        return []
    far.sort(key=lambda row: -abs(row["energy_mean"]))
    names = ", ".join(f"{row['name']} ({row['energy_mean']:+.2f})" for row in far[:8])
    return [
        f"Mean E' of {len(far)} of {len(diagnosis.by_config_type)} config_types is "
        f"beyond ±1: {names}. Their energies differ from what their composition says "
        "as a whole; split by config_type to see whether a model transfers to them."
    ]
