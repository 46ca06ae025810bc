"""Potentials and networks, and parts of networks."""

from tfpes.models.element_embedding import ElementEmbedding
from tfpes.models.export import export_potential
from tfpes.models.painn import PaiNN
from tfpes.models.potential import Potential
from tfpes.models.radial import edge_vectors
from tfpes.models.schnet import SchNet

__all__ = [
    "ElementEmbedding",
    "PaiNN",
    "Potential",
    "SchNet",
    "edge_vectors",
    "export_potential",
]
