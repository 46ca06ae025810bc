"""What a training run can be told."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tfpes.finetuning import BASELINES, Baseline
from tfpes.losses import elementwise
from tfpes.statistics.fit.options import SizeLaw

DEFAULT_MINUTES = 2.0
Network = Literal["schnet", "painn"]
_FROM_THE_MODEL = ("cutoff", "network", "channels", "blocks", "stats")


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
    size_law: SizeLaw = "auto"
    stats: str | None = None
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    metric: elementwise.Name = "mse"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    learning_rate: float = 4e-3
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


def check(options: Options) -> None:
    """Raise a ValueError for options that make no sense."""
    require_positive(
        **{
            name: getattr(options, name)
            for name in ("cutoff", "batch_size", "learning_rate", "channels", "blocks")
        }
    )
    elementwise.resolve(options.metric, delta=1.0)
    for name in ("energy_weight", "forces_weight"):
        if not getattr(options, name) >= 0:
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
