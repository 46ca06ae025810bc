"""Steps per execution, the device, and its memory."""

import types

import keras
import pytest
import tensorflow as tf
from rich.console import Console

from tfpes.layers import PESNormalization
from tfpes.models import PaiNN, Potential, SchNet
from tfpes.training import Options
from tfpes.training import fit as fit_module
from tfpes.training.host_loop import device_name, steps_per_execution


class Sized:
    """As many structures and edges as a test needs."""

    def __init__(self, structures, edges):
        self.structures = structures
        self.edge_offsets = (0, edges)

    def __len__(self):
        return self.structures


def potential(network):
    return Potential(network, PESNormalization())


def test_an_execution_is_some_50_ms_long(monkeypatch):
    devices = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices)
    many = Sized(10_000, 3_000_000)  # 2400 edges in a batch of 8
    tiny, default, large = (
        steps_per_execution(potential(SchNet(5.0, channels, blocks)), many, 8)
        for channels, blocks in ((4, 1), (32, 2), (256, 6))
    )
    assert (tiny, default, large) == (8, 4, 1)
    assert steps_per_execution(potential(PaiNN(5.0, 32, 2)), many, 8) == 2
    # No more than an epoch has; a network that nothing is known of gets one.
    small = Sized(24, 7200)
    assert steps_per_execution(potential(SchNet(5.0, 4, 1)), small, 8) == 2
    assert (
        steps_per_execution(
            potential(keras.layers.Lambda(lambda x: x["positions"][:, 0])), many, 8
        )
        == 1
    )
    devices.append("a GPU")
    assert steps_per_execution(potential(SchNet(5.0, 32, 2)), many, 8) == 32


def test_device(monkeypatch):
    assert device_name().startswith("CPU (")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details",
        lambda device: {"device_name": "NVIDIA H200"},
    )  # fmt: skip
    assert device_name() == "NVIDIA H200"


@pytest.mark.parametrize("tf32", [False, True])
def test_a_batch_that_does_not_fit(tf32, tmp_path):
    def fit(*arguments, **options):
        seen.append(tf.config.experimental.tensor_float_32_execution_enabled())
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    seen = []
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    part = types.SimpleNamespace(batches=lambda *_, **__: None)
    run = fit_module.Run(
        options=Options(epochs=1, batch_size=12, tf32=tf32),
        model=types.SimpleNamespace(fit=fit),
        budget=None,
        parts={"train": part, "valid": part},
        folder=tmp_path,
        console=Console(quiet=True),
    )
    checkpoint = types.SimpleNamespace(budget=None, best=None, epoch=0)
    with pytest.raises(MemoryError, match=r"12 structures.*Try `--batch-size 6`"):
        fit_module._run_epochs(run, checkpoint)
    assert seen == [tf32]
    assert tf.config.experimental.tensor_float_32_execution_enabled() is before
