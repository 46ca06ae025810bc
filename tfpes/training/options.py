"""What a training run can be told."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfpes.finetuning import BASELINES
from tfpes.runs import RunOptions, check_cutoff

DEFAULT_MINUTES = 2.0
FROM_THE_MODEL = ("cutoff", "network", "channels", "blocks", "stats")
"""Options that ``--from`` decides."""


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """What ``tfpes train`` can be told; the command line describes each."""

    valid: Sequence[str] = ()
    test: Sequence[str] = ()
    start: str | None = None
    baseline: str = "refit"
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    metric: str = "mse"
    energy_weight: float = 1.0
    forces_weight: float = 1.0
    learning_rate: float = 4e-3
    network: str = "schnet"
    channels: int = 32
    blocks: int = 2
    stats: str | None = None
    seed: int = 0

    @property
    def budget(self) -> dict[str, Any]:
        """The epochs or the minutes that a run lasts for."""
        if self.epochs is not None:
            return {"epochs": self.epochs}
        return {"minutes": DEFAULT_MINUTES if self.minutes is None else self.minutes}


def check(options: Options) -> None:
    """Raise a ValueError for options that make no sense."""
    check_cutoff(options)
    for name in ("batch_size", "learning_rate", "channels", "blocks"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must be positive. Received: "
                f"{getattr(options, name)}."
            )
    for name in ("energy_weight", "forces_weight"):
        if not getattr(options, name) >= 0:
            raise ValueError(
                f"`--{name.replace('_', '-')}` must not be negative. Received: "
                f"{getattr(options, name)}."
            )
    if options.minutes is not None and not options.minutes > 0:
        raise ValueError(f"`--minutes` must be positive. Received: {options.minutes}.")
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
    decided = [name for name in FROM_THE_MODEL if name in given]
    if given.get("baseline") != "adapt" and "size_law" in given:
        decided.append("size_law")
    if given.get("start") is not None and decided:
        flags = ", ".join(f"`--{name.replace('_', '-')}`" for name in decided)
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
