"""What a training run can be told."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfpes.data.labels import NAMES
from tfpes.elements import by_atomic_number
from tfpes.finetuning import BASELINES, Baseline
from tfpes.losses import elementwise
from tfpes.statistics.fit.options import SizeLaw

DEFAULT_MINUTES = 2.0
Network = Literal["schnet", "painn"]
_FROM_THE_MODEL = (
    "cutoff", "network", "channels", "blocks", "stats", "energies_of_atoms",
)  # fmt: skip
FILE = "file"
"""Energies of isolated atoms are those in the file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What ``tfpes train`` can be told; ``tfpes train --help`` describes each."""

    data: Sequence[str] = ("molecules",)
    valid: Sequence[str] = ()
    test: Sequence[str] = ()
    cutoff: float = 5.0
    energy_key: str = "energy"
    forces_key: str = "forces"
    stress_key: str = "stress"
    virial_key: str = "virial"
    weight_key: str = NAMES["weight_key"]
    config_weights: str = ""
    size_law: SizeLaw = "auto"
    energies_of_atoms: str = FILE
    stats: str | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    metric: elementwise.Name = "mse"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    virial_weight: float = 0.0
    ratio: str | None = None
    delta: float = 3.0
    learning_rate: float = 4e-3
    clip: float = 10.0
    weight_decay: float = 0.0
    ema: float = 0.0
    patience: int | None = None
    network: Network = "schnet"
    channels: int = 32
    blocks: int = 2
    tf32: bool = False
    seed: int = 0
    start: str | None = None
    baseline: Baseline = "refit"
    output: str | None = None
    overwrite: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """What is trained on."""
        return ("energy", "forces", *(["virial"] if self.virial_weight else []))

    @property
    def budget(self) -> dict[str, Any]:
        """The epochs or the minutes that a run lasts for."""
        if self.epochs is not None:
            return {"epochs": self.epochs}
        return {"minutes": DEFAULT_MINUTES if self.minutes is None else self.minutes}


def flag(name: str) -> str:
    """Return an option as the command line spells it."""
    names = {"data": "DATA", "start": "--from"}
    return names.get(name, f"--{name.replace('_', '-')}")


def require_positive(**options: float) -> None:
    """Raise a ValueError unless options are positive, and finite."""
    for name, value in options.items():
        if not 0 < value < math.inf:
            raise ValueError(f"`{flag(name)}` must be positive. Received: {value}.")


def pairs(name: str, text: str) -> dict[str, float]:
    """Read an option such as ``bulk=1,liquid=5``."""
    found = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.rpartition("=")
        try:
            found[key.strip()] = float(value)
        except ValueError:
            key = ""
        if not key.strip() or not math.isfinite(found[key.strip()]):
            raise ValueError(
                f"`{flag(name)}` must be names and numbers, such as A=1,B=2.5. "
                f"Received: {text!r}."
            )
    return found


def ends(text: str) -> tuple[float, float]:
    """Read the option ``--ratio``: two numbers, or one that is both."""
    first, colon, last = text.partition(":")
    try:
        start, end = float(first), float(last if colon else first)
    except ValueError:
        start = end = math.nan
    if not (0 < start < math.inf and 0 < end < math.inf):
        raise ValueError(
            "`--ratio`, energy : forces, must be one positive number, or two, "
            f"START:END, between which it changes. Received: {text!r}. Write, for "
            "example, 1 or 0.01:10."
        )
    return start, end


def check(options: Options) -> None:
    """Raise a ValueError for options that make no sense."""
    if min(pairs("config_weights", options.config_weights).values(), default=0) < 0:
        raise ValueError(
            "`--config-weights` must not be negative. Received: "
            f"{options.config_weights!r}."
        )
    if options.energies_of_atoms != FILE:
        name = "energies_of_atoms"
        by_atomic_number(pairs(name, options.energies_of_atoms), name)
    if options.ratio is not None:
        ends(options.ratio)
        if not options.forces_weight:
            raise ValueError(
                "`--ratio` is that of energies to forces. Received: "
                "`--forces-weight 0` as well. Leave one out."
            )
    if not 0 <= options.ema < 1:
        raise ValueError(
            "`--ema` must be at least 0 and below 1, such as 0.99. Received: "
            f"{options.ema}."
        )
    require_positive(
        **{
            name: getattr(options, name)
            for name in (
                "cutoff", "batch_size", "learning_rate", "channels", "blocks",
                "clip", "delta",
            )
        }
    )  # fmt: skip
    elementwise.resolve(options.metric, options.delta)
    for name in ("energy_weight", "forces_weight", "virial_weight", "weight_decay"):
        if not 0 <= getattr(options, name) < math.inf:
            raise ValueError(
                f"`{flag(name)}` must not be negative. Received: "
                f"{getattr(options, name)}."
            )
    if options.minutes is not None:
        require_positive(minutes=options.minutes)
    if options.epochs is not None and options.minutes is not None:
        raise ValueError(
            "A run lasts for `--epochs` or for `--minutes`. Received: both. "
            "Leave one out."
        )
    if options.baseline not in BASELINES:
        raise ValueError(
            f"`--baseline` must be one of {', '.join(BASELINES)}. Received: "
            f"{options.baseline!r}."
        )


def check_given(given: Mapping[str, Any]) -> None:
    """Raise a ValueError for options that ``--from`` or ``--stats`` decides.

    Args:
        given: what a user has asked for, defaults left out.
    """
    decided = [name for name in _FROM_THE_MODEL if name in given]
    if given.get("baseline") != "adapt" and "size_law" in given:
        decided.append("size_law")
    if given.get("start") is not None and decided:
        flags = ", ".join(f"`{flag(name)}`" for name in decided)
        raise ValueError(
            "With `--from`, network, cutoff and statistics are those of the model. "
            f"Received: {flags} as well. Leave it out; `--baseline adapt` learns the "
            "statistics anew."
        )
    for one, other in (("ratio", "energy_weight"), ("stats", "energies_of_atoms")):
        if given.get(one) is not None and other in given:
            raise ValueError(
                f"`{flag(one)}` takes the place of `{flag(other)}`. Received: both. "
                "Leave one out."
            )
    if "delta" in given and given.get("metric") != "huber":
        raise ValueError(
            "`--delta` is that of `--metric huber`. Received: another metric. Leave it "
            "out, or ask for that one."
        )
    if given.get("start") is None and "baseline" in given:
        raise ValueError(
            "`--baseline` tells what to do with the model of `--from`. Received: no "
            "`--from`. Name a model, or leave `--baseline` out."
        )
    if given.get("stats") is not None and "size_law" in given:
        raise ValueError(
            "With `--stats`, the size law is that of the file. Received: `--size-law` "
            "as well. Leave it out, or make the file again with `tfpes stats DATA "
            "--size-law ... --save`."
        )
