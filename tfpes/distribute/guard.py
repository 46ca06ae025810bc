"""Parts of batches that are taken for whole ones."""

import inspect
import sys
from types import FrameType

import keras

from tfpes.distribute.prepare import is_prepared
from tfpes.layers import PESNormalization

_FITS = {inspect.unwrap(method).__code__ for method in (
    keras.Model.fit, keras.Model.evaluate,
)}  # fmt: skip
_ADAPT = inspect.unwrap(PESNormalization.adapt).__code__


def refuse_alone() -> None:
    """Raise a RuntimeError where this process takes its part for all there is.

    Datasets do not know who iterates them, in threads of their own. Whoever does is
    waiting for the first batch.
    """
    for frame in sys._current_frames().values():
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code is _ADAPT:
                raise RuntimeError(
                    "Statistics are of the batches of all processes. Received: "
                    "`adapt` of a normalization with batches of `share=cluster`, part "
                    "of the data. Call `cluster.adapt(norm, batches)`."
                )
            if caller.f_code in _FITS:
                model = caller.f_locals["self"]
                if not is_prepared(model):
                    raise RuntimeError(
                        "A model that processes train together is prepared. Received: "
                        f"`{caller.f_code.co_name}` of {model.name!r}, which is not, "
                        "with batches of `share=cluster`. Call `cluster.prepare(model)`"
                        " in all processes before."
                    )
            caller = caller.f_back
