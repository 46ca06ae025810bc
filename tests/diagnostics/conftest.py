import numpy as np
import pytest

from tfpes.data import Structures


@pytest.fixture(scope="session")
def simulated():
    """Return what makes structures of chosen compositions and labels."""

    def simulated(composition, energy, forces=None):
        """Make structures without geometry; `composition` is a list of dicts."""
        numbers = [np.repeat(list(row), list(row.values())) for row in composition]
        offsets = np.cumsum([0, *map(len, numbers)])
        count, atoms = len(composition), offsets[-1]
        if forces is None:
            forces = np.full((atoms, 3), np.nan)
        return Structures(
            positions=np.zeros((atoms, 3), np.float32),
            atomic_numbers=np.concatenate(numbers).astype(np.int32),
            cell=np.zeros((count, 3, 3), np.float32),
            edge_index=np.zeros((2, 0), np.int32),
            edge_shift=np.zeros((0, 3), np.int16),
            energy=np.asarray(energy, float),
            forces=np.asarray(forces, np.float32),
            virial=np.full((count, 3, 3), np.nan),
            atom_offsets=offsets,
            edge_offsets=np.zeros(count + 1, np.int64),
            config_type=np.full(count, ""),
            weight=np.ones(count),
            cutoff=5.0,
        )

    return simulated
