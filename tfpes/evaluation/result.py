"""Errors of a model on data, to print, to write and to draw."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfpes.data.structures import Structures
from tfpes.evaluation.comparison import (
    Comparison,
    compare_batches,
    compare_structures,
)
from tfpes.evaluation.errors import Errors, as_json, group_errors
from tfpes.evaluation.tables import ErrorTable
from tfpes.files import replacing, write_json
from tfpes.inference.predictions import Model
from tfpes.layers import PESNormalization


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Errors of a model, of everything and of groups of structures.

    An element's energy and virial errors are those of the structures that hold it, its
    force errors those of its own atoms. Isolated atoms, whose energies are no draws
    from the distribution of the others, are in no other group.

    Attributes:
        overall: errors of all structures but isolated atoms.
        isolated: of these, if there are any.
        by_training: of new structures and of those that the model was trained on, if
            there are any of these.
        by_size: by number of atoms, in the bins of ``tfpes.evaluation.size_bins``.
        by_element: by element.
        by_config_type: by ``config_type``, if the structures have one.
        comparison: the labels and predictions.
    """

    overall: Errors
    isolated: tuple[Errors, ...]
    by_training: tuple[Errors, ...]
    by_size: tuple[Errors, ...]
    by_element: tuple[Errors, ...]
    by_config_type: tuple[Errors, ...]
    comparison: Comparison = dataclasses.field(repr=False)

    @classmethod
    def of(cls, comparison: Comparison) -> "Evaluation":
        """Compute the errors of labels and predictions."""
        optional = ("by_config_type", "isolated", "by_training")
        groups = {**dict.fromkeys(optional, ()), **group_errors(comparison)}
        (overall,) = groups.pop("overall")
        return cls(overall=overall, **groups, comparison=comparison)

    @property
    def groups(self) -> dict[str, tuple[Errors, ...]]:
        """All rows, by the name of the attribute."""
        names = ("isolated", "by_training", "by_size", "by_element", "by_config_type")
        groups = {name: getattr(self, name) for name in names}
        return {"overall": (self.overall,), **groups}

    def table(self, title: str | None = None) -> ErrorTable:
        """Return a table to print with rich, in meV/atom and meV/Å."""
        return ErrorTable(self.groups, title)

    def as_dict(self) -> dict[str, Any]:
        """Return the errors as JSON has them; None for what is not a number."""
        rows = {k: [as_json(row) for row in rows] for k, rows in self.groups.items()}
        return {**rows, "overall": rows["overall"][0]}

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`as_dict` to a file, completely or not at all."""
        write_json(path, self.as_dict())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each group, completely or not at all.

        The first column, ``group``, is ``overall``, ``isolated``, ``training``,
        ``size``, ``element`` or ``config_type``; the others are the attributes of
        :class:`tfpes.evaluation.Errors`. Empty: no label, or no statistics. A name that
        a spreadsheet would take for a formula begins with an apostrophe.
        """
        names = [field.name for field in dataclasses.fields(Errors)]
        with (
            replacing(path) as unfinished,
            unfinished.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["group", *names])
            for group, rows in self.groups.items():
                kind = group.removeprefix("by_")
                for row in rows:
                    name, *values = dataclasses.astuple(row)
                    writer.writerow([kind, _cell(name), *values])

    def plot_parity(self, path: str | os.PathLike[str], title: str = "") -> None:
        """Draw predicted against true energies, force components and virials."""
        # matplotlib takes a second to import.
        from tfpes.evaluation import pictures

        pictures.plot_parity(pathlib.Path(path), self.comparison, title)


def evaluate(
    model: Model,
    data: Structures | Iterable,
    *,
    normalization: PESNormalization | None = None,
    batch_size: int = 16,
    trained_on: NDArray[np.bool_] | None = None,
) -> Evaluation:
    """Compare the predictions of a model with labels, in one pass.

    Each number is what the metric of that name in :mod:`tfpes.metrics` gives: exact over
    all labels, without labels that are NaN and without padding. Sample weights are not
    used.

    Args:
        model: any Keras model or function from inputs to a dict with ``energy`` (S,),
            ``forces`` (A, 3) and optionally ``virial`` (S, 3, 3), or a
            :class:`tfpes.inference.LoadedPotential`. A target that the model
            has no output for is left out.
        data: a :class:`tfpes.data.Structures` with neighbour lists for the cutoff of
            the model, or a ``tf.data.Dataset`` of batches ``(inputs, targets)`` with
            packed targets (:mod:`tfpes.targets`); any shapes, padded or not.
        normalization: whose statistics give the standardized errors; by default
            ``model.normalization``. Without one these errors are None.
        batch_size: structures at a time, for ``Structures``.
        trained_on: which of these the model was trained on, (S,), for rows of their own.

    Returns:
        The errors, overall and by size, element and ``config_type``.

    Raises:
        ValueError: for data without labels, elements that the normalization has not
            seen, or outputs of other shapes.

    Example:
        >>> import tfpes
        >>> structures = tfpes.data.load("alloys")[:20]
        >>> norm = tfpes.layers.PESNormalization()
        >>> norm.adapt(structures.batches(20))
        >>> model = tfpes.models.Potential(tfpes.models.SchNet(5.0, 4, 1), norm)
        >>> errors = tfpes.evaluate(model, structures)
        >>> errors.overall.structures, errors.overall.efwt
        (20, 0.0)
    """  # noqa: E501
    if isinstance(data, Structures):
        comparison = compare_structures(model, data, batch_size)
    else:
        comparison = compare_batches(model, data)
    if not comparison.has_labels():
        raise ValueError(
            "`evaluate` compares predictions with labels. Received: "
            f"{len(comparison.composition)} structures without an energy, force or "
            "virial that the model predicts. Check the names of the labels."
        )
    if normalization is None:
        normalization = getattr(model, "normalization", None)
    if isinstance(normalization, PESNormalization):
        comparison = comparison.with_scales(normalization)
    if trained_on is not None:
        comparison = dataclasses.replace(comparison, trained_on=np.asarray(trained_on))
    return Evaluation.of(comparison)


def _cell(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
