"""Advice in sentences, each with the number that it rests on."""

from collections.abc import Sequence
from typing import Any

from tfpes.diagnostics.findings import Diagnosis, ModelErrors
from tfpes.diagnostics.outlier_advice import advise_on_outliers
from tfpes.diagnostics.units import advise_on_units
from tfpes.evaluation import Errors

_FEW = 10  # structures with an element
_ENOUGH = 5  # energies of a group, for its mean or RMS to be taken seriously
_UNEVEN = 2.0  # ratio of the RMS E' of two sizes
_WORSE = 1.5  # ratio of the errors of a group to those of all
_OFF = 0.1  # difference of two shares
_HEAVY = 6.0  # kurtosis
_UNBALANCED = 4.0  # ratio of the terms of a model's loss


def advise(diagnosis: Diagnosis) -> list[str]:
    """Return what to do about a data set, and about the errors of a model on it."""
    sentences = [
        *advise_on_units(diagnosis.structures),
        *_size_law(diagnosis.report),
        *_sizes(diagnosis.labels.by_size),
        *_energy_shares(diagnosis),
        *_force_shares(diagnosis),
        *_ratio(diagnosis),
        *_rare_elements(diagnosis.labels.by_element),
        *_tails(diagnosis),
        *_config_types(diagnosis.labels.by_config_type),
        *advise_on_outliers(diagnosis.outliers, len(diagnosis.structures)),
    ]
    if diagnosis.errors is not None:
        sentences += _model(diagnosis.errors)
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


def _sizes(rows: Sequence[Errors]) -> list[str]:
    """Say how far the scale is from right for some sizes, whatever the law."""
    known = _energies(rows)
    if len(known) < 2:
        return []
    (low, smallest), *_, (high, largest) = sorted(known, key=lambda pair: pair[1])
    if largest < _UNEVEN * smallest:
        return []
    return [
        f"With that law, RMS E' still goes from {smallest:.2f} ({low.name} atoms) to "
        f"{largest:.2f} ({high.name} atoms): the former weigh less in a standardized "
        "loss than the latter. If they matter as much to you, give them sample weights."
    ]


def _energies(rows: Sequence[Errors]) -> list[tuple[Errors, float]]:
    """Return the groups with enough energies, and the RMS of E'."""
    found = [(row, row.standardized_energy_rmse or 0.0) for row in rows]
    return [(row, rms) for row, rms in found if rms > 0 and row.energies >= _ENOUGH]


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


def _config_types(rows: Sequence[Errors]) -> list[str]:
    # What a model that says 0 is off by is minus the mean of the labels.
    means = [
        (row.name, -(row.standardized_energy_mean or 0.0))
        for row in rows
        if row.energies >= _ENOUGH
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


def _model(errors: ModelErrors) -> list[str]:
    """Return sentences about the errors of a model."""
    overall = errors.evaluation.overall
    energy = overall.standardized_energy_rmse
    forces = overall.standardized_force_rmse
    sentences = []
    if energy is not None and forces is not None and energy > 0 and forces > 0:
        sentences.append(
            f"The model's RMSE is {energy:.3g} of the spread of the energies and "
            f"{forces:.3g} of that of the forces. " + _balance(energy, forces)
        )
    if errors.slope is not None:
        slope = errors.slope
        if slope.low > 0:
            end = (
                "errors grow with size faster than the spread s. Train with the size "
                "law that the data ask for, and with more large structures."
            )
        elif slope.high < 0:
            end = (
                "small structures have the larger errors relative to their spread; "
                "they may be too few, or too different."
            )
        else:
            end = "standardized errors do not depend on size. Nothing to do."
        sentences.append(
            f"ln ΔE'² changes with ln N by {slope.slope:.2f} [{slope.low:.2f}, "
            f"{slope.high:.2f}]: {end}"
        )
    for what, rows in (
        ("atoms", errors.evaluation.by_size),
        ("config_type", errors.evaluation.by_config_type),
    ):
        if names := _worse(_energies(rows), energy, 5):
            sentences.append(
                f"Standardized energy errors are more than {_WORSE} times the overall "
                f"{energy:.3g} for {what} {names}: add such data, or check their "
                "labels."
            )
    known = [
        (r, r.standardized_force_rmse or 0.0) for r in errors.evaluation.by_element
    ]
    if names := _worse(known, forces, 8):
        sentences.append(
            f"Standardized force errors are more than {_WORSE} times the overall "
            f"{forces:.3g} for {names}: these elements need data or capacity."
        )
    return sentences


def _balance(energy: float, forces: float) -> str:
    ratio = (energy / forces) ** 2
    if ratio > _UNBALANCED:
        return (
            f"The energy term of the loss is {ratio:.3g} times the force term: raise "
            "the energy weight towards the end of the training."
        )
    if ratio < 1 / _UNBALANCED:
        return (
            f"The force term of the loss is {1 / ratio:.3g} times the energy term: the "
            "energies are learned; more force weight, or a larger model, is next."
        )
    return f"The two terms of the loss are {ratio:.2g} : 1, balanced."


def _worse(known: list[tuple[Errors, float]], overall: float | None, most: int) -> str:
    """Name the groups whose errors are far above those of all, the worst first."""
    far = [pair for pair in known if overall and pair[1] > _WORSE * overall]
    far.sort(key=lambda pair: -pair[1])
    return ", ".join(f"{row.name} ({rmse:.3g})" for row, rmse in far[:most])
