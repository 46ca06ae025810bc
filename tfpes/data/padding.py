"""The report on padding."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Padding:
    """Shapes of the batches, and the fraction of atoms and edges that is padding.

    Attributes:
        shapes: (atoms, edges, structures) of each distinct shape.
        atoms: fraction of all atoms that is padding.
        edges: fraction of all edges that is padding.
    """

    shapes: tuple[tuple[int, int, int], ...]
    atoms: float
    edges: float

    def __str__(self) -> str:
        """Format as one line."""
        shapes = ", ".join(
            f"{atoms} atoms × {edges} edges" for atoms, edges, _ in self.shapes
        )
        return (
            f"{len(self.shapes)} batch shape(s) ({shapes}); padding: "
            f"{self.atoms:.1%} of atoms, {self.edges:.1%} of edges"
        )
