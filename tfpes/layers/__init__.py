"""Preprocessing layers."""

from tfpes.layers.pes_normalization import PESNormalization

__all__ = ["PESNormalization"]
