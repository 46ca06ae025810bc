"""What to do about structures that are listed."""

from collections.abc import Sequence

from tfpes.diagnostics.outliers import KINDS, Outlier

_SHOWN = 8
# More structures than this share are the nature of the set, no accidents.
_MANY = 0.01
_TEXTS = {
    "two energies": "The same geometry has two energies, up to {largest:.3g} eV apart: "
    "{who}, compared with an earlier one. One of the two calculations failed, or is of "
    "another kind: leave it out.",
    "energy": "Energies of {who} are beyond what {total} normal energies reach, up to "
    "{largest:.1f} robust standard deviations. {next}",
    "force": "Forces in {who} are beyond what normal forces reach, up to |F'| = "
    "{largest:.1f} in the first. {next}",
    "contact": "Atoms come closer than 0.6 of the sum of their covalent radii in "
    "{who}, down to {smallest:.2f}. Intended (compression, collisions), or broken "
    "geometries?",
    "duplicate": "An earlier structure is repeated by {who}. Leave copies out, or they "
    "end up on both sides of a split and errors look too small.",
    "net force": "Forces do not sum to zero in {who}, up to {largest:.0%} of √Σ|F|². A "
    "potential cannot fit that: set forces that were fixed or cropped to NaN.",
    "isolated atom": "Isolated atoms: {who}. They were left out of the statistics, but "
    "fix mean energies where compositions do not (`--energies-of-atoms`).",
    "no energy": "No energy: {who} of {total}. They add nothing to an energy loss, and "
    "no harm; check the name of the label, `--energy-key`, if that is not meant.",
    "no forces": "Forces are missing, at least in part: {who} of {total}. They add "
    "nothing to a force loss, and no harm; else see `--forces-key`.",
    "no virial": "No stress: {who} of {total}, {periodic} of them periodic in three "
    "directions. A virial loss (`--virial-weight`) does not see them.",
}
MISSING = ("isolated atom", "no energy", "no forces", "no virial")
"""Kinds of structures that only lack something."""
# What is next if there are few, or many.
_FEW = {
    "energy": "Check how they were computed; if they are right, use `--metric huber`, "
    "if not, leave them out.",
    "force": "Check these calculations.",
}
_TOO_MANY = {
    "energy": "look at what they have in common.",
    "force": "the tail belongs to the data. Look at the first ones all the same.",
}


def advise_on_outliers(outliers: Sequence[Outlier], total: int) -> dict[str, str]:
    """Return one sentence for each kind of outlier that there is.

    Args:
        outliers: found, those of a kind with the largest value first.
        total: number of structures.
    """
    groups = {kind: [o for o in outliers if o.kind == kind] for kind in KINDS}
    return {
        kind: _sentence(kind, found, total) for kind, found in groups.items() if found
    }


def _sentence(kind: str, found: list[Outlier], total: int) -> str:
    number, largest = len(found), found[0].value
    indices = ", ".join(str(outlier.structure) for outlier in found[:_SHOWN])
    if number > _SHOWN:
        indices += ", …"
    then = _FEW.get(kind)
    if kind in _TOO_MANY and number > max(_MANY * total, 3):
        then = (
            f"{number / total:.1%} of the structures is more than a few failed "
            f"calculations: {_TOO_MANY[kind]}"
        )
    return _TEXTS[kind].format(
        who=f"{number} structure{'s' if number > 1 else ''} ({indices})",
        total=total,
        largest=largest,
        smallest=1 / largest if largest else 0.0,
        periodic=sum(outlier.value > 0 for outlier in found),
        next=then,
    )
