"""What the errors of a model say."""

from tfpes.diagnostics.model_errors import ModelErrors
from tfpes.evaluation import Errors

# Errors of a group that are worse than overall by this factor are worth a sentence.
_WORSE = 1.5


def model_advice(errors: ModelErrors) -> list[str]:
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
        text = (
            f"ln ΔE'² changes with ln N by {slope.slope:.2f} [{slope.low:.2f}, "
            f"{slope.high:.2f}]"
        )
        if slope.low > 0:
            end = "errors grow with size faster than the spread s. " + _GROWING
        elif slope.high < 0:
            end = (
                "small structures have the larger errors relative to their spread; "
                "they may be too few, or too different."
            )
        else:
            end = "standardized errors do not depend on size. Nothing to do."
        sentences.append(f"{text}: {end}")
    sentences += _worse(errors.evaluation.by_size, energy, "atoms")
    sentences += _worse(errors.evaluation.by_config_type, energy, "config_type")
    sentences += _worse_forces(errors.evaluation.by_element, forces)
    return sentences


_GROWING = (
    "Train with the size law that the data ask for, and with more large structures."
)


def _balance(energy: float, forces: float) -> str:
    ratio = (energy / forces) ** 2
    if ratio > 4:
        return (
            f"The energy term of the loss is {ratio:.3g} times the force term: raise "
            "the energy weight towards the end of the training."
        )
    if ratio < 0.25:
        return (
            f"The force term of the loss is {1 / ratio:.3g} times the energy term: the "
            "energies are learned; more force weight, or a larger model, is next."
        )
    return f"The two terms of the loss are {ratio:.2g} : 1, balanced."


def _worse(groups: tuple[Errors, ...], overall: float | None, what: str) -> list[str]:
    rows = [
        row
        for row in groups
        if overall
        and row.standardized_energy_rmse is not None
        and row.structures >= 5
        and row.standardized_energy_rmse > _WORSE * overall
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: -(row.standardized_energy_rmse or 0.0))
    names = ", ".join(f"{r.name} ({r.standardized_energy_rmse:.3g})" for r in rows[:5])
    return [
        f"Standardized energy errors are more than {_WORSE} times the overall "
        f"{overall:.3g} for {what} {names}: add such data, or check their labels."
    ]


def _worse_forces(groups: tuple[Errors, ...], overall: float | None) -> list[str]:
    rows = [
        row
        for row in groups
        if overall
        and row.standardized_force_rmse is not None
        and row.standardized_force_rmse > _WORSE * overall
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: -(row.standardized_force_rmse or 0.0))
    names = ", ".join(f"{r.name} ({r.standardized_force_rmse:.3g})" for r in rows[:8])
    return [
        f"Standardized force errors are more than {_WORSE} times the overall "
        f"{overall:.3g} for {names}: these elements need data or capacity."
    ]
