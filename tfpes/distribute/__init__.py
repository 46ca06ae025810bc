"""Several processes, one for each device, that train one model."""

from tfpes.distribute.cluster import Cluster

__all__ = ["Cluster"]
