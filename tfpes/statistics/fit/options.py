"""Options of the fits, checked when they are made."""

import dataclasses
import difflib
import math
import numbers
from typing import Literal, get_args

SizeLaw = Literal["independent", "collective", "auto"]
_SIZE_LAWS = get_args(SizeLaw)
_ISOLATED_ATOMS = ("exclude", "include")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    r"""How means and scales are fitted.

    Args:
        size_law: ``"independent"`` ($\kappa = 0$), ``"collective"`` ($\kappa$ is
            fitted), or ``"auto"``: collective where its gain in log-likelihood exceeds
            ``(ln(structures) + 2) / 2``, with a variance for each element and with one
            for all.
        per_element: False for one variance common to all elements.
        prior_strength: number of imaginary structures of each element that hold its
            variance, and its force scale, near the common one, at least 0.
        robust: pull energies, forces and virials farther than 2.5 standard deviations
            in to there.
        isolated_atoms: ``"exclude"`` or ``"include"`` the energies of single atoms
            without neighbours, which are no draws from the distribution of the
            others.

    Raises:
        TypeError: for a flag that is no bool, or a strength that is no number.
        ValueError: for an unknown word, or a strength that is negative or not finite.

    Example:
        >>> FitOptions(size_law="auto").size_law
        'auto'
    """

    size_law: str = "independent"
    per_element: bool = True
    prior_strength: float = 10.0
    robust: bool = False
    isolated_atoms: str = "exclude"

    def __post_init__(self) -> None:
        """Check every option."""
        _check_word("size_law", self.size_law, _SIZE_LAWS)
        _check_word("isolated_atoms", self.isolated_atoms, _ISOLATED_ATOMS)
        _check_flag("per_element", self.per_element)
        _check_flag("robust", self.robust)
        _check_strength(self.prior_strength)


def _check_word(name: str, value: object, choices: tuple[str, ...]) -> None:
    if isinstance(value, str) and value in choices:
        return
    listed = ", ".join(f'"{choice}"' for choice in choices)
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f'Did you mean "{near[0]}"?' if near else f'The default is "{choices[0]}".'
    raise ValueError(f"`{name}` must be one of {listed}. Received: {value!r}. {hint}")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(
            f"`{name}` must be True or False. Received: {value!r}, of type "
            f"{type(value).__name__}. Pass a bool."
        )


def _check_strength(value: object) -> None:
    rule = "`prior_strength` is a number of imaginary structures, finite and at least 0"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"{rule}. Received: {value!r}, of type {type(value).__name__}. The default "
            "is 10."
        )
    if not 0 <= float(value) < math.inf:
        raise ValueError(f"{rule}. Received: {value}. The default is 10.")
