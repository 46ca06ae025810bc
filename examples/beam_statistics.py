"""Statistics of any number of structures with Apache Beam, without TensorFlow.

Tables of batches are added up wherever the data are, and fitted once::

    fits = batches | beam.CombineGlobally(Statistics())

A batch is a dict of arrays: ``composition`` (S, 119), ``energy`` (S,) and ``isolated``
(S,), whether it is one atom without neighbours; and of the atoms of the others
``atomic_numbers`` (A,), ``forces`` (A, 3) and ``structure_index`` (A,). What comes out,
`mean`, `variance` and `collective_variance` of the first fit and `scale` of the second,
is what `PESNormalization` takes.
"""

# %% What Beam calls
try:
    from apache_beam import CombineFn
except ImportError:  # then somebody else calls the four methods
    CombineFn = object

from tfpes import statistics


class Statistics(CombineFn):
    """Batches in, fits of energies and of forces out."""

    def __init__(self, size_law="auto"):
        """Remember how to fit."""
        self.options = statistics.FitOptions(size_law=size_law)

    def create_accumulator(self):
        """Begin."""
        return statistics.CompositionTable(), statistics.AtomicTable()

    def add_input(self, tables, batch):
        """Add a batch."""
        energies, forces = tables
        energies.update(
            batch["composition"], batch["energy"], isolated=batch["isolated"]
        )
        forces.update(
            batch["atomic_numbers"],
            batch["forces"],
            structure_index=batch["structure_index"],
        )
        return tables

    def merge_accumulators(self, accumulators):
        """Add up tables of several workers."""
        merged = self.create_accumulator()
        for tables in accumulators:
            for mine, theirs in zip(merged, tables, strict=True):
                mine.merge(theirs)
        return merged

    def extract_output(self, tables):
        """Fit."""
        energies, forces = tables
        return (
            statistics.fit_energy(energies, self.options),
            statistics.fit_forces(forces, self.options),
        )
