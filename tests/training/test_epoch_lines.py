import io
import re

import keras
import numpy as np
import pytest
from rich.console import Console

from tfpes.training.epoch_lines import EpochLines


@pytest.mark.parametrize("terminal", [True, False])
def test_a_line_for_each_epoch(terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((8, 1))
    lines = EpochLines(console, 4)
    model.fit(x, x, epochs=4, verbose=0, validation_data=(x, x), callbacks=[lines])
    for epoch in range(1, 5):
        assert re.search(rf"(^|\D){epoch} +\d+\.\d +\d", text.getvalue(), re.MULTILINE)
    assert terminal == ("batches" in text.getvalue())
