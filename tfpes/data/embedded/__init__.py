"""Embedded data sets, made by us: small enough to ship, hard enough to learn from.

Both are xz-compressed extended XYZ. Energies are in eV, forces in eV/Å, stress in
eV/Å³ with ASE's sign. Frames come from Langevin dynamics at several temperatures,
are rounded (positions to 1e-4 Å, cells to 1e-5 Å) and labelled after that, so labels
belong to the geometry in the file. They are shuffled: any prefix is a random subset.
`config_type` says what a structure is. Licence: MIT, as the package.

`molecules`: 1547 structures, not periodic, of GFN2-xTB.
    11 `isolated_atom` (one of each element, without forces), 720 `molecule` (15 frames
    of each of 48 molecules at 300, 600 and 1000 K) and 816 `cluster` (2 to 24 molecules
    of one or two kinds at 250, 400 and 600 K). `name` says which.
    Elements H, B, C, N, O, F, Na, Si, P, S, Cl. 1 to 96 atoms, on average 21.7.
    Forces: RMS 0.92 eV/Å, largest below 25 eV/Å. Energies are total energies of the
    valence electrons, about -1e2 eV an atom.

`alloys`: 800 structures, periodic, of ASE's effective-medium potential (EMT).
    272 `crystal` (pure, or ordered as L1_0, L1_2, B2, ...), 378 `solution` (random
    colouring of fcc, bcc and hcp sites), 75 `liquid` and 75 `amorphous` (melted at
    6000 K; quenched to 300 K). All six of Cu, Ag, Au, Ni, Pd, Pt in 500 cells of 1 to
    16 atoms, 180 of 20 to 64 and 120 of 90 to 256, on average 34.3. The volume is that
    of Vegard's lattice constant strained by 0.94 to 1.06. Solids are at 100 to 1200 K.
    Forces: RMS 0.87 eV/Å, largest below 20 eV/Å. Energies are relative to relaxed fcc
    crystals of the elements, within 1 eV an atom; EMT reaches to about 5.8 Å.

`tfpes.data.load` reads them. (So does `ase.io.read`, but slowly: it seeks back at every
frame, for which LZMA starts again. Unpack the files first, with `lzma.open`.)

`benchmarks/embedded/generate.py` made them; users need not run it.
"""

import pathlib

__all__ = ["EMBEDDED", "embedded_path"]

EMBEDDED = ("alloys", "molecules")


def embedded_path(name: str) -> pathlib.Path:
    """Return the file of an embedded data set.

    Args:
        name: one of ``EMBEDDED``.

    Returns:
        The path of an xz-compressed extended XYZ file, which `ase.io.read` reads.

    Raises:
        ValueError: if there is no embedded data set of that name.
    """
    if name not in EMBEDDED:
        known = ", ".join(f"`{n}`" for n in EMBEDDED)
        raise ValueError(
            f"`name` must be an embedded data set. Received: {name!r}. "
            f"Choose one of {known}, or read a file of your own by its path."
        )
    return pathlib.Path(__file__).with_name(f"{name}.xyz.xz")
