"""Statistics of structures: those that their folder holds, or gathered anew."""

import itertools
import os
import pathlib
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfpes.data import Structures
from tfpes.data.packed import packed_labels
from tfpes.files import replacing
from tfpes.layers import PESNormalization

_STATISTICS = "statistics.npz"
"""What was gathered of the structures in a folder."""


def write_gathered(
    folder: str | os.PathLike[str], normalization: PESNormalization
) -> None:
    """Write what a layer has gathered beside the structures."""
    state: dict[str, Any] = {}
    normalization.save_own_variables(state)
    with replacing(pathlib.Path(folder) / _STATISTICS) as path:
        np.savez(path, **state)


def _gathered(
    folder: str | os.PathLike[str], **options: Any
) -> PESNormalization | None:
    """Return a layer that has gathered the structures of a folder.

    Args:
        folder: of structures.
        **options: of the layer.

    Returns:
        None if the folder does not have it.

    Raises:
        ValueError: if the file is damaged.
    """
    path = pathlib.Path(folder) / _STATISTICS
    if not path.exists():
        return None
    layer = PESNormalization(**options)
    try:
        with np.load(path, allow_pickle=False) as stored:
            layer.load_own_variables(dict(stored))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"A folder of structures may hold their statistics. Received: '{path}', "
            f"which is damaged ({error}). Delete it, and they are gathered anew."
        ) from error
    return layer


def adapt(
    structures: Structures,
    labels: Iterable[str],
    more: Iterable[Any] = (),
    **options: Any,
) -> PESNormalization:
    """Return a layer with the statistics of structures.

    Of a whole folder, they are gathered already; else, labels are gone through once.

    Args:
        structures: to learn from.
        labels: to learn of, where that is not known.
        more: further batches.
        **options: of the layer.
    """
    if structures.whole_folder is not None and not options.get("robust"):
        layer = _gathered(structures.whole_folder, **options)
        if layer is not None:
            for batch in more:
                layer.update_state(batch)
            layer.finalize_state()
            return layer
    layer = PESNormalization(**options)
    layer.adapt(itertools.chain(packed_labels(structures, tuple(labels)), more))
    return layer
