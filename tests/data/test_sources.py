"""Files that ASE would read wrongly, in part, or for ever."""

import gzip

import pytest

from tfpes.data import read

FRAME = """\
2
Properties=species:S:1:pos:R:3 energy=-1.0
H 0.0 0.0 0.0
H 0.0 0.0 0.75
"""


@pytest.fixture(params=["data.xyz", "data.extxyz", "data.xyz.gz"])
def write(request, tmp_path):
    path = tmp_path / request.param

    def to_file(text):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt") as file:
            file.write(text)
        return path

    return to_file


@pytest.mark.parametrize("end", ["", "\n", "\n  \n\n"])
def test_whole_files(write, end):
    assert len(read(write(3 * FRAME + end), 4.0, verbose=False)) == 3


def test_lattice_vectors_below_the_atoms(write):
    path = write("1\n\nH 0 0 0\nVEC1 3 0 0\nVEC2 0 3 0\nVEC3 0 0 3\n" * 2)
    data = read(path, 4.0, energy_key=None, verbose=False)
    assert data.cell[:, 0, 0].tolist() == [3.0, 3.0]


HEAD, TAIL = FRAME.split("\n", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # ASE ends at an empty line: one of ten frames.
        (
            FRAME + "\n" + 9 * FRAME,
            r"empty lines. Received: .*after 1 struct.* 666 bytes",
        ),
        ("\n" + FRAME, "after 0 structures"),
        (
            FRAME + "-1\n" + TAIL,
            r"begins with its number of atoms. Received: b'-1' after 1",
        ),
        (FRAME + "1\n" + TAIL, r"Received: b'H 0.0 0.0 0.75' after 2 structures"),
        (FRAME + "3\n" + TAIL + FRAME, "Received: b'Prop"),
        (
            FRAME + "99999999999\n" + TAIL,
            r"says, 99999999999. .* after 2 atoms of str.* 1",
        ),
        (f"{10**30}\n" + TAIL, "which ends after 2 atoms of structure 0"),
        (FRAME + "2\n", "which ends after 0 atoms of structure 1"),
        (
            FRAME.replace("species:S:1", "Z:R:1").replace("H ", "29.7 "),
            "numbers are whole, `Z:I:1`",
        ),
        (FRAME.replace("-1.0", '"_JSON {\\"eV\\": 1}"'), "must be numbers"),
        (FRAME.replace("-1.0", '"_JSON {1"'), "ASE must be able to read"),
    ],
)
def test_frames_that_are_none(write, text, message):
    with pytest.raises(ValueError, match=message):
        read(write(text), 4.0, verbose=False)
