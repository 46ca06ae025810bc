"""What a run compiles its potential with."""

import numpy as np
import pytest

import tfpes
from tfpes.training import Options
from tfpes.training.potential import compile_potential


@pytest.mark.parametrize(
    ("ratio", "start", "end"), [("0.01:10", 0.01, 10), ("3", 3, 3)]
)
def test_ratio_over_a_run(ratio, start, end):
    norm = tfpes.layers.PESNormalization(
        energy_mean={"H": -1.0}, energy_variance={"H": 0.5}, force_scale={"H": 2.0}
    )
    model = tfpes.models.Potential(tfpes.models.SchNet(5.0, 4, 1), norm)
    options = Options(minutes=1, ratio=ratio, forces_weight=0.5)
    budget, schedule = compile_potential(model, options)
    used = np.array([0.0, 0.25, 0.5, 1.0, 1.1])
    weights = []
    for progress in used:
        budget.set_state({"step": 0, "seconds": 60.0 * progress})
        weights.append(list(schedule(epoch=7).values()))
    energy, forces = np.transpose(weights)
    expected = np.exp(np.interp(used, [0, 1], np.log([start, end])))
    np.testing.assert_allclose(energy / forces, expected, rtol=1e-12)
    np.testing.assert_allclose(energy + forces, 1.0, rtol=1e-12)
