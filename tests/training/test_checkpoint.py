"""What a checkpoint holds, without a run."""

import types

import numpy as np
import pytest

import tfpes
from tfpes.callbacks import BestModel
from tfpes.training.checkpoint import Checkpoint, Saved


def potential(structures, robust):
    norm = tfpes.layers.PESNormalization(robust=robust)
    for batch in structures.batches(4):
        norm.update_state(batch)
    norm.finalize_state()
    model = tfpes.models.Potential(tfpes.models.SchNet(4.0, 4, 1), norm)
    model.build()
    return model


def checkpoint(model, folder):
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    best = BestModel(folder / "model.keras")
    budget = types.SimpleNamespace(state=dict, set_state=id)
    made = Checkpoint(folder / "checkpoint.npz", best, budget, None)
    for callback in (best, made):
        callback.set_model(model)
    return made


@pytest.mark.parametrize("robust", [False, True])
def test_what_was_gathered_goes_on(structures, tmp_path, robust):
    """More data after a resumed run count as they would without it."""
    model = potential(structures[:9], robust)
    checkpoint(model, tmp_path).write()
    saved = Saved(tmp_path / "checkpoint.npz")
    again = saved.model()
    checkpoint(again, tmp_path).restore(saved)
    stores: list[dict] = [{}, {}]
    for store, each in zip(stores, (model, again), strict=True):
        each.normalization.save_own_variables(store)
    assert len(stores[0]) > 30
    assert stores[0].keys() == stores[1].keys()
    for name, array in stores[0].items():
        np.testing.assert_array_equal(array, stores[1][name])
    (batch,) = structures[9:].batches(15)
    for each in (model, again):
        each.normalization.update_state(batch)
        each.normalization.finalize_state()
    whole, resumed = model.normalization.statistics, again.normalization.statistics
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name])
