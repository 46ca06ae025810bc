"""What to do about structures that are listed."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from tfpes.diagnostics.outliers import Outlier

_SHOWN = 8
# More structures than this share are the nature of the set, no accidents.
_MANY = 0.01


def advise(outliers: Sequence[Outlier], total: int) -> list[str]:
    """Return one sentence for each kind of outlier that there is.

    Args:
        outliers: found.
        total: number of structures.
    """
    groups = defaultdict(list)
    for outlier in outliers:
        groups[outlier.kind].append(outlier)
    return [
        _TEXTS[kind](f"{_count(found)} ({_indices(found)})", found, total)
        for kind, found in groups.items()
    ]


def _count(found: list[Outlier]) -> str:
    return "1 structure" if len(found) == 1 else f"{len(found)} structures"


def _indices(found: list[Outlier]) -> str:
    text = ", ".join(str(outlier.structure) for outlier in found[:_SHOWN])
    return text + (", …" if len(found) > _SHOWN else "")


def _energy(who: str, found: list[Outlier], total: int) -> str:
    start = (
        f"Energies of {who} are beyond what {total} normal energies reach, up to "
        f"{found[0].value:.1f} robust standard deviations."
    )
    if len(found) > max(_MANY * total, 3):
        return (
            f"{start} {len(found) / total:.1%} of the structures is more than a few "
            "failed calculations: look at what they have in common."
        )
    return (
        f"{start} Check how they were computed; if they are right, use "
        "`metric='huber'`, if not, leave them out."
    )


def _force(who: str, found: list[Outlier], total: int) -> str:
    start = (
        f"Forces in {who} are beyond what normal forces reach, up to |F'| = "
        f"{found[0].value:.1f} in the first."
    )
    if len(found) > max(_MANY * total, 3):
        return (
            f"{start} {len(found) / total:.1%} of the structures is more than a few "
            "failed calculations: the tail belongs to the data. Look at the first ones "
            "all the same."
        )
    return f"{start} Check these calculations."


def _contact(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"Atoms come closer than 0.6 of the sum of their covalent radii in {who}, down "
        f"to {1 / found[0].value:.2f}. Intended (compression, collisions), or broken "
        "geometries?"
    )


def _duplicate(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"An earlier structure is repeated by {who}; their energies differ by up to "
        f"{found[0].value:.3g} eV. Leave copies out, or they end up on both sides of a "
        "split and errors look too small."
    )


def _net_force(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"Forces do not sum to zero in {who}, up to {found[0].value:.0%} of √Σ|F|². A "
        "potential cannot fit that: set forces that were fixed or cropped to NaN."
    )


def _isolated(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"Isolated atoms: {who}. They were left out of the statistics; give their "
        "energies as `reference_energies` of the model if dissociation matters."
    )


def _no_energy(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"No energy: {who} of {total}. They add nothing to an energy loss, and no "
        "harm; check the name of the label if that is not meant."
    )


def _no_forces(who: str, found: list[Outlier], total: int) -> str:
    return (
        f"Forces are missing, at least in part: {who} of {total}. They add nothing to "
        "a force loss, and no harm."
    )


def _no_virial(who: str, found: list[Outlier], total: int) -> str:
    periodic = sum(outlier.value > 0 for outlier in found)
    return (
        f"No stress: {who} of {total}, {periodic} of them periodic in three "
        "directions. A virial loss does not see them."
    )


_TEXTS: dict[str, Callable[[str, list[Outlier], int], str]] = {
    "energy": _energy,
    "force": _force,
    "contact": _contact,
    "duplicate": _duplicate,
    "net force": _net_force,
    "isolated atom": _isolated,
    "no energy": _no_energy,
    "no forces": _no_forces,
    "no virial": _no_virial,
}
