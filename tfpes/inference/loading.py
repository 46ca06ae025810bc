"""Saved potentials, however they were written, as one kind of object."""

import dataclasses
import os
import pathlib
import zipfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfpes.elements import SYMBOLS
from tfpes.layers import PESNormalization
from tfpes.models import Potential
from tfpes.models.export import (
    FORMAT_VERSION,
    LENGTHS,
    METADATA,
    geometry_dtype,
    network_cutoff,
)
from tfpes.statistics.standardize import NAMES
from tfpes.targets import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedPotential:
    """A potential to evaluate, and what must be known to do so.

    Attributes:
        cutoff: radius of the neighbour lists, Å.
        normalization: with the statistics of the training data, None if unknown.
        dtype: of positions, cells and forces, ``"float32"`` or ``"float64"``.
        function: from inputs to outputs.
        jit_compile: whether XLA may compile it.

    Call arguments:
        inputs: dict as for :class:`tfpes.models.Potential`.

    Returns:
        dict of ``energy`` (S,) float64 eV, ``forces`` (A, 3) eV/Å and ``virial``
        (S, 3, 3) float64 eV.
    """

    cutoff: float
    normalization: PESNormalization | None
    dtype: str
    function: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    jit_compile: bool = True

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of the elements that it was trained on; none if unknown."""
        if self.normalization is None:
            return ()
        seen = np.flatnonzero(self.normalization.seen.numpy())
        return tuple(SYMBOLS[number] for number in seen)

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return energies, forces and virials."""
        return self.function(self.cast(inputs))

    def cast(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs with lengths of the right dtype."""
        lengths = {name: tf.cast(inputs[name], self.dtype) for name in LENGTHS}
        return {**inputs, **lengths}


def load_potential(
    source: str | os.PathLike[str] | keras.Model, cutoff: float | None = None
) -> LoadedPotential:
    """Load a potential from any of its forms.

    Args:
        source: a ``.keras`` file, a SavedModel that ``Potential.export`` wrote, the
            folder of a run of ``tfpes train`` (its ``model.keras`` is taken, else its
            ``saved_model``), a :class:`tfpes.models.Potential` in memory, or any
            other Keras model from such inputs to ``energy`` and ``forces``.
        cutoff: radius of the neighbour lists, Å, for a Keras model that does not tell.

    Returns:
        The potential. No Python code in a file is executed; a SavedModel, as any
        TensorFlow graph, should nevertheless come from somebody you trust.

    Raises:
        FileNotFoundError: if there is no model.
        ValueError: if it is damaged, no potential of tfpes, or of a newer format; for
            a Keras model without a cutoff, or a cutoff that is not the potential's.
    """
    if isinstance(source, keras.Model) and not isinstance(source, Potential):
        return _from_any(source, cutoff)
    potential = _load(source)
    if cutoff is not None and not np.isclose(cutoff, potential.cutoff):
        raise ValueError(
            "A potential tells the radius of its neighbour lists, "
            f"{potential.cutoff:g} Å. Received: `cutoff={cutoff:g}`. Leave it out."
        )
    return potential


def _load(source: str | os.PathLike[str] | Potential) -> LoadedPotential:
    if isinstance(source, Potential):
        return _from_keras(source)
    path = pathlib.Path(source)
    if path.is_file():
        return _from_keras(load_keras(path))
    if (path / "model.keras").is_file():
        return _load(path / "model.keras")
    for folder in (path, path / "saved_model"):
        if (folder / "saved_model.pb").is_file():
            return _load_saved_model(folder)
    raise FileNotFoundError(
        "A potential is a `.keras` file, a SavedModel written by `Potential.export`, "
        f"or the folder of a run of `tfpes train`. Received: {str(path)!r}, which "
        f"{'holds no model' if path.is_dir() else 'does not exist'}. Check the path."
    )


def load_keras(path: pathlib.Path) -> Potential:
    """Load a ``.keras`` file; errors are those of :func:`load_potential`."""
    if path.suffix != ".keras":
        raise ValueError(
            "A file with a potential is a `.keras` file written by `model.save`. "
            f"Received: {str(path)!r}. Name such a file, or a SavedModel's folder."
        )
    # Its table of contents comes last; Keras calls a file without it absent.
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"A `.keras` file must be complete. Received: {str(path)!r}, which is "
            "broken off or something else. Save the model again."
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # Unknown classes and options, damage and code each fail in their own way.
        raise ValueError(
            "The classes in a `.keras` file must be known, and it must hold no code. "
            f"Received: {str(path)!r}, which Keras cannot load ({_summary(error)}). "
            "Import the module that registers a network of your own; a file of a "
            "newer tfpes or Keras needs that version."
        ) from error
    if not isinstance(model, Potential):
        raise ValueError(
            "A potential is a `tfpes.models.Potential`. Received: "
            f"{str(path)!r}, which holds a {type(model).__name__}. Wrap the network: "
            "`Potential(network, normalization)`."
        )
    return model


def _from_keras(model: Potential) -> LoadedPotential:
    model.normalization.require_adapted()
    cutoff = network_cutoff(model)
    return LoadedPotential(
        cutoff=cutoff,
        normalization=model.normalization,
        dtype=geometry_dtype(model),
        function=lambda inputs: model.evaluate_inputs(inputs, compute_virial=True),
    )


def _from_any(model: keras.Model, cutoff: float | None) -> LoadedPotential:
    cutoff = getattr(model, "cutoff", None) if cutoff is None else cutoff
    if cutoff is None or not cutoff > 0:
        raise ValueError(
            "A Keras model is evaluated with neighbour lists of a radius, `cutoff` "
            f"(Å). Received: a {type(model).__name__} and `cutoff={cutoff}`. Pass it, "
            "or set `model.cutoff`."
        )
    normalization = getattr(model, "normalization", None)
    known = isinstance(normalization, PESNormalization)
    return LoadedPotential(
        cutoff=float(cutoff),
        normalization=normalization if known else None,
        dtype=geometry_dtype(model),
        function=model,
        jit_compile=bool(model.jit_compile),
    )


def _load_saved_model(path: pathlib.Path) -> LoadedPotential:
    try:
        model = tf.saved_model.load(str(path))
    except Exception as error:
        # Parsers, checksums and restoring each raise their own.
        raise ValueError(
            f"A SavedModel must be complete. Received: {str(path)!r}, which TensorFlow "
            f"cannot load ({_summary(error)}). Export the model again."
        ) from error
    metadata = {}
    if hasattr(model, "serve") and hasattr(model, "metadata"):
        metadata = {name: value.numpy() for name, value in model.metadata().items()}
    if metadata.get("format_version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"This version of tfpes reads models of format {FORMAT_VERSION}. Received: "
            f"{str(path)!r} of format {metadata['format_version']}, written by tfpes "
            f"{metadata['tfpes_version'].decode()}. Upgrade tfpes."
        )
    if not metadata.keys() >= set(METADATA):
        raise ValueError(
            "A potential is a SavedModel written by `Potential.export`. Received: "
            f"{str(path)!r}, a SavedModel of something else."
        )
    normalization = PESNormalization()
    for name in NAMES:
        getattr(normalization, name).assign(metadata[name])
    return LoadedPotential(
        cutoff=float(metadata["cutoff"]),
        normalization=normalization,
        dtype=metadata["dtype"].decode(),
        # A restored function does not keep its variables alive; its model does.
        function=lambda inputs: model.serve(inputs),
    )


def _summary(error: Exception) -> str:
    """Return one line; what went wrong comes last in Keras's nested messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1].removeprefix("Exception encountered: ")[:200] if lines else ""
    return f"{type(error).__name__}: {text.rstrip('.')}"
