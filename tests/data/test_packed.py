"""Labels for statistics, without neighbour lists."""

import dataclasses

import numpy as np
import pytest

import tfpes


@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_are_those_of_batches(
    structures, tmp_path, monkeypatch, close, weighted
):
    """Of a folder without edges, isolated atoms told by their number of edges."""
    if weighted:
        weight = np.random.default_rng(0).integers(0, 4, len(structures)).astype(float)
        structures = dataclasses.replace(structures, weight=weight)
    expected, norm = (tfpes.layers.PESNormalization() for _ in range(2))
    labels = ("energy", "forces", "virial")
    expected.adapt(structures.batches(4, labels=labels, isolated_atoms="include"))
    structures.save(tmp_path / "folder", edges=False)
    monkeypatch.setattr(
        "tfpes.data.neighbours.vesin.NeighborList", lambda **_: pytest.fail("searched")
    )
    norm.adapt(tfpes.data.packed_labels(tfpes.data.open(tmp_path / "folder"), labels))
    assert norm.report.as_dict() == expected.report.as_dict()
    for name, values in expected.statistics.items():
        close(norm.statistics[name], values)
