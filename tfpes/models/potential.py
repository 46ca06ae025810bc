"""A network and its statistics as a potential: energies, forces and virials."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfpes.elements import by_atomic_number, by_symbol
from tfpes.layers import PESNormalization
from tfpes.models.export import LENGTHS, export_potential, geometry_dtype
from tfpes.targets import Tensor, atom_target, composition, structure_target


@keras.saving.register_keras_serializable(package="tfpes")
class Potential(keras.Model):
    """Total energies, forces and virials from unitless local energies.

    With the network's output e_i and the statistics of the normalization,

        E = Σ_i (μ_z + a_z e_i),   a_z = √(σ_z² + κ²),
        F_i = -∂E/∂r_i,            W = -∂E/∂ε,

    with all sums of energies in float64 and derivatives by differentiation inside the
    compiled step. A fresh network thus starts at the right scale.

    Args:
        network: any Keras layer or model that maps ``inputs`` to one unitless number
            per atom, (A,) or (A, 1), such as :class:`tfpes.models.SchNet`.
        normalization: the adapted :class:`tfpes.layers.PESNormalization`. Its
            statistics are weights of this model: saved, loaded and exported with it.
        compute_virial: also return the virial.
        reference_energies: energies of single atoms (symbol or Z to eV) that replace
            μ_z as the baseline, for the elements given.
        **kwargs: ``name``, ``dtype``, ``trainable``.

    Call arguments:
        inputs: dict of ``positions`` (A, 3) Å, ``atomic_numbers`` (A,),
            ``structure_index`` (A,), ``cell`` (S, 3, 3) Å, ``edge_index`` (2, P),
            ``edge_shift`` (P, 3).

    Returns:
        dict of ``energy`` (S,) float64 eV, ``forces`` (A, 3) eV/Å and, if asked for,
        ``virial`` (S, 3, 3) float64 eV.

    Raises:
        ValueError: for a network that cannot be called with such a dict, or that
            returns something else than one number per atom.
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        normalization: PESNormalization,
        compute_virial: bool = False,
        reference_energies: Mapping[str | int, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the parts."""
        # Coordinates in half precision would be useless; the network casts features.
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.network = network
        self.normalization = normalization
        self.compute_virial = bool(compute_virial)
        self.reference_energies = (
            None
            if reference_energies is None
            else by_atomic_number(reference_energies, "reference_energies")
        )
        if not network.built:
            _build(network, geometry_dtype(self))
        # Nothing is left to build: files, summaries and optimizers find all weights.
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Do nothing: the network was built with the potential, for any shapes."""

    def call(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return energies, forces and, if asked for, virials."""
        return self.evaluate_inputs(inputs, self.compute_virial)

    def evaluate_inputs(
        self, inputs: dict[str, Tensor], compute_virial: bool
    ) -> dict[str, Tensor]:
        """Do what a call does, with or without virials."""
        # A compiled function of a layer without statistics would look like a potential.
        self.normalization.require_adapted()
        dtype = geometry_dtype(self)
        if dtype == "float32":
            _warn_of_tensor_float_32()
        inputs = {**inputs, **{key: tf.cast(inputs[key], dtype) for key in LENGTHS}}
        numbers, cell = inputs["atomic_numbers"], inputs["cell"]
        structure_index = inputs["structure_index"]
        num_structures = cell.shape[0] or tf.shape(cell)[0]
        atomic_scale = tf.gather(self.normalization.atomic_energy_scale(), numbers)
        positions = inputs["positions"]
        # A strain for each structure: its derivative is the virial.
        strain = tf.zeros_like(cell)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(positions)
            changed = {"positions": positions}
            if compute_virial:
                tape.watch(strain)
                changed = _deform(inputs, strain)
            local = self.network({**inputs, **changed})
            if local.shape.rank == 2 and local.shape[1] == 1:
                local = local[:, 0]
            if local.shape.rank != 1:
                raise ValueError(
                    "A network returns one number per atom, (A,) or (A, 1). Received: "
                    f"shape {tuple(local.shape)} from {type(self.network).__name__}. "
                    "Let its last layer have one output."
                )
            # Structures are disjoint: the gradient of the sum is that of each.
            total = tf.reduce_sum(tf.cast(local, dtype) * tf.cast(atomic_scale, dtype))
        sources = (positions, strain) if compute_virial else (positions,)
        gradients = tape.gradient(
            total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        counts = composition(numbers, structure_index, num_structures)
        energy = self.baseline(counts) + tf.math.unsorted_segment_sum(
            tf.cast(local, tf.float64) * atomic_scale, structure_index, num_structures
        )
        outputs = {"energy": energy, "forces": -tf.convert_to_tensor(gradients[0])}
        if compute_virial:
            symmetric = 0.5 * (gradients[1] + tf.linalg.matrix_transpose(gradients[1]))
            outputs["virial"] = -tf.cast(symmetric, tf.float64)
        return outputs

    def baseline(self, composition: Tensor) -> Tensor:
        """Return the energy of the atoms alone, ``Σ n_z μ_z``, (S,) float64 eV."""
        mean = tf.convert_to_tensor(self.normalization.energy_mean)
        if self.reference_energies is not None:
            given = tf.constant(self.reference_energies)
            mean = tf.where(tf.math.is_nan(given), mean, given)
        return self.normalization.sum_of_known(composition, mean)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "tf_saved_model",
        **kwargs: Any,
    ) -> None:
        """Write a SavedModel, by :func:`tfpes.models.export_potential`.

        Args:
            filepath: a new folder.
            format: ``"tf_saved_model"``, or another format of ``keras.Model.export``.
            **kwargs: of ``keras.Model.export``, for another format.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, **kwargs)
            return
        export_potential(self, filepath)

    def make_train_function(self, force: bool = False) -> None:
        """Make what `fit` calls.

        Keras traces a step again if variables are made in it: they are made here.
        """
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)
        self._make_loss_trackers()
        super().make_train_function(force)

    def make_test_function(self, force: bool = False) -> None:
        """Make what `evaluate` calls, without variables in it."""
        self._make_loss_trackers()
        super().make_test_function(force)

    def _make_loss_trackers(self) -> None:
        """Let Keras make its means of losses, by a loss of a single padding row."""
        losses = self.loss if isinstance(self.loss, dict) else {}
        made = self.train_function is not None or self.test_function is not None
        outputs = {"energy", "forces"} | ({"virial"} if self.compute_virial else set())
        if made or not all(hasattr(x, "normalization") for x in losses.values()):
            return  # losses of somebody else may not know padding
        if losses.keys() != outputs:
            return  # Keras makes means for outputs as it finds them
        counts = composition([0], [0], 1)
        rows = {"energy": tf.zeros((1,)), "virial": tf.zeros((1, 3, 3))}
        targets = {key: structure_target(row, counts) for key, row in rows.items()}
        rows["forces"] = tf.zeros((1, 3))
        targets["forces"] = atom_target(rows["forces"], [0], [0])
        self.compute_loss(
            y={key: targets[key] for key in losses},
            y_pred={key: rows[key] for key in losses},
        )
        self.reset_metrics()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile as Keras does, but let all batches count alike in ``loss``.

        Keras weights that of a batch by its padded atoms, which are no property of the
        data; losses of outputs count alike already, so ``loss`` is their weighted sum.
        """
        super().compile(*args, **kwargs)
        tracker, *_ = self.metrics
        update = tracker.update_state
        tracker.update_state = lambda loss, sample_weight=None: update(loss)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as before; losses and metrics read the statistics of this model."""
        config = keras.saving.deserialize_keras_object(config)
        names = ("loss", "metrics", "weighted_metrics")
        for part in keras.tree.flatten([config.get(name) for name in names]):
            if isinstance(getattr(part, "normalization", None), PESNormalization):
                part.normalization = self.normalization
        self.compile(**config)
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        given = self.reference_energies
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "normalization": keras.saving.serialize_keras_object(self.normalization),
            "compute_virial": self.compute_virial,
            "reference_energies": None if given is None else by_symbol(given),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Potential":
        """Make a potential from what :meth:`get_config` returned."""
        config = dict(config)
        for part in ("network", "normalization"):
            config[part] = keras.saving.deserialize_keras_object(config[part])
        return cls(**config)


def _build(network: keras.layers.Layer, dtype: str) -> None:
    """Build a network by calling it on one atom with one edge to its image."""
    inputs = {
        "positions": tf.zeros((1, 3), dtype),
        "atomic_numbers": tf.ones((1,), tf.int32),
        "structure_index": tf.zeros((1,), tf.int32),
        "cell": 3.0 * tf.eye(3, dtype=dtype)[None],
        "edge_index": tf.zeros((2, 1), tf.int32),
        "edge_shift": tf.ones((1, 3), dtype),
    }
    try:
        network(inputs)
    except Exception as error:
        raise ValueError(
            f"A network takes a dict of {', '.join(inputs)}. Received: "
            f"{type(network).__name__}, which fails when it is called on one atom: "
            f"{error}"
        ) from error


def _deform(inputs: dict[str, Tensor], strain: Tensor) -> dict[str, Tensor]:
    """Strain positions and cells by the symmetric part, ``r ← r + r ε``."""
    strain = 0.5 * (strain + tf.linalg.matrix_transpose(strain))
    positions, cell = inputs["positions"], inputs["cell"]
    local = tf.gather(strain, inputs["structure_index"])
    # Sums, not matrix products, which a GPU may round to ten bits.
    return {
        "positions": positions + tf.reduce_sum(positions[:, :, None] * local, axis=1),
        "cell": cell + tf.reduce_sum(cell[..., None] * strain[:, None], axis=2),
    }


def _warn_of_tensor_float_32() -> None:
    """Say once what TensorFlow does by default to products on a GPU that can."""
    if not tf.config.experimental.tensor_float_32_execution_enabled():
        return
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        if details.get("compute_capability", (0, 0)) >= (8, 0):
            warnings.warn(
                "TensorFlow rounds the factors of float32 products to 10 bits on "
                f"{details.get('device_name', 'this GPU')}: forces move by some "
                "meV/Å. For full precision, call "
                "`tf.config.experimental.enable_tensor_float_32_execution(False)` "
                "before the first step.",
                stacklevel=2,
            )
            return
