"""What a data set holds, what losses would weigh in it, and how a model fails on it."""

from tfpes.diagnostics.diagnosis import diagnose
from tfpes.diagnostics.findings import Diagnosis
from tfpes.diagnostics.loss_shares import loss_shares
from tfpes.diagnostics.outliers import KINDS, Outlier
from tfpes.diagnostics.page import to_html
from tfpes.diagnostics.peers import PeerWeights, peer_text, peer_weights

__all__ = [
    "KINDS",
    "Diagnosis",
    "Outlier",
    "PeerWeights",
    "diagnose",
    "loss_shares",
    "peer_text",
    "peer_weights",
    "to_html",
]
