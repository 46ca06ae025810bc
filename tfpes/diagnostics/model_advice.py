"""Sentences about the errors of a model."""

from collections.abc import Sequence

from tfpes.diagnostics.findings import ModelErrors
from tfpes.evaluation import Errors

ENOUGH = 5
"""Energies of a group, for its mean or RMS to be taken seriously."""
_WORSE = 1.5  # ratio of the errors of a group to those of all
_UNBALANCED = 4.0  # ratio of the terms of a model's loss


def known_energies(rows: Sequence[Errors]) -> list[tuple[Errors, float]]:
    """Return the groups with enough energies, and the RMS of E'."""
    found = [(row, row.standardized_energy_rmse or 0.0) for row in rows]
    return [(row, rms) for row, rms in found if rms > 0 and row.energies >= ENOUGH]


def errors_of_model(errors: ModelErrors) -> list[str]:
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
    return sentences


def worse_groups(errors: ModelErrors) -> list[str]:
    """Return sentences about the groups whose errors are far above those of all."""
    overall, sentences = errors.evaluation.overall, []
    energy = overall.standardized_energy_rmse
    forces = overall.standardized_force_rmse
    for what, rows in (
        ("atoms", errors.evaluation.by_size),
        ("config_type", errors.evaluation.by_config_type),
    ):
        if names := _worse(known_energies(rows), energy, 5):
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
            "the energy weight towards the end of the training (`--ratio`)."
        )
    if ratio < 1 / _UNBALANCED:
        return (
            f"The force term of the loss is {1 / ratio:.3g} times the energy term: the "
            "energies are learned; more `--forces-weight`, or `--channels`, is next."
        )
    return f"The two terms of the loss are {ratio:.2g} : 1, balanced."


def _worse(known: list[tuple[Errors, float]], overall: float | None, most: int) -> str:
    """Name the groups whose errors are far above those of all, the worst first."""
    far = [pair for pair in known if overall and pair[1] > _WORSE * overall]
    far.sort(key=lambda pair: -pair[1])
    return ", ".join(f"{row.name} ({rmse:.3g})" for row, rmse in far[:most])
