"""Folders of runs: one for each process, and whatever somebody left in them."""

import json

import numpy as np
import pytest

from tfpes.training import resume
from tfpes.training import run as run_module
from tfpes.training.fit import CHECKPOINT


@pytest.fixture
def folder(tmp_path):
    """Of a run that was stopped, as far as `resume` can tell."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"options": {"data": ["molecules"]}, "fingerprints": {}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "state",
    [
        {"format_version": 1},
        {"format_version": "x"},
        [],
        {name: {} for name in ("model", "epoch", "trained", "history", "report")},
        {
            **dict.fromkeys(("epoch", "trained", "history", "report"), 1),
            **{"format_version": 1, "model": {}, "budget": {}, "best": {}},
        },
    ],
)
def test_checkpoint_of_something_else(folder, state, monkeypatch):
    monkeypatch.setattr(run_module, "read_parts", lambda *arguments: {})
    np.savez(folder / CHECKPOINT, state=np.array(json.dumps(state)))
    with pytest.raises(ValueError, match=r"checkpoint\.npz', which is damaged"):
        resume(folder)


@pytest.mark.parametrize("options", [{"cutoff": "far"}, {"minutes": [1]}, {"data": 5}])
def test_options_of_something_else(folder, options):
    config = {"options": options, "fingerprints": {}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json', which this version"):
        resume(folder)
