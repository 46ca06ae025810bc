import errno

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tfpes import Calculator
from tfpes.cli.predict import _keep_labels


@pytest.fixture(scope="module")
def images(crystals):
    """Return structures with labels, one without, one without a period."""
    molecule = Atoms("CuAu", [[0, 0, 0], [1.5, 1, 1]], info={"energy": -1.0})
    return [*crystals, bulk("Cu", a=3.7), molecule]


@pytest.fixture(scope="module")
def data(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.xyz"
    ase.io.write(path, images)
    return path


@pytest.fixture(scope="module")
def written(run, trained, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "new" / "out.xyz"
    model = trained.keras_file.parent
    return path, run("predict", model, data, "-o", path, "--batch-size", 3)


def test_values_and_order(trained, images, written):
    calculator = Calculator(trained.saved_model)
    frames = ase.io.read(written[0], ":")
    assert len(frames) == len(images)
    for frame, atoms in zip(frames, images, strict=True):
        assert frame.numbers.tolist() == atoms.numbers.tolist()
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-7)
        calculator.calculate(atoms)
        assert frame.calc.results.keys() == calculator.results.keys()
        for name, bound in (("energy", 1e-6), ("forces", 1e-5), ("stress", 1e-6)):
            if name in calculator.results:
                np.testing.assert_allclose(
                    frame.calc.results[name],
                    calculator.results[name],
                    rtol=0,
                    atol=bound,
                )


def test_labels_are_kept(images, written):
    *labelled, bare, molecule = ase.io.read(written[0], ":")
    for frame, atoms in zip(labelled, images, strict=False):
        expected = atoms.calc.results
        assert frame.info["reference_energy"] == pytest.approx(
            expected["energy"], abs=1e-12
        )
        kept = frame.arrays["reference_forces"]
        np.testing.assert_allclose(kept, expected["forces"], atol=1e-7)
        assert np.asarray(frame.info["reference_stress"]).size in (6, 9)
    assert not [key for key in (*bare.info, *bare.arrays) if "reference" in key]
    assert molecule.info["reference_energy"] == -1.0
    assert "stress" not in molecule.calc.results


def test_message_tells_what_was_written(images, written):
    path, result = written
    count = sum(map(len, images))
    assert f"10 structures, {count} atoms: written to {path}" in result.output
    assert [p.name for p in path.parent.iterdir()] == ["out.xyz"]


def test_several_files_and_labels_of_those_predicted_before(
    run, trained, data, images, written, tmp_path
):
    path = tmp_path / "out.extxyz"
    run("predict", trained.saved_model, written[0], data, "-o", path)
    frames = ase.io.read(path, ":")
    assert len(frames) == 2 * len(images)
    again, first = frames[0], frames[len(images)]
    energy = first.get_potential_energy()
    assert again.get_potential_energy() == pytest.approx(energy, abs=1e-6)
    before = images[0].calc.results["energy"]
    for frame in (again, first):
        assert frame.info["reference_energy"] == pytest.approx(before, abs=1e-12)


def test_labels_of_a_single_atom(labelled):
    atoms = labelled(Atoms("Cu"), energy=1.0, forces=[[0, 0, 0]], magmom=2.0)
    _keep_labels(atoms)
    assert atoms.info == {"reference_energy": 1.0, "reference_magmom": 2.0}
    assert atoms.arrays["reference_forces"].shape == (1, 3)


# -- errors ---------------------------------------------------------------------------


def test_file_is_not_overwritten(run, refuse, trained, data, tmp_path):
    path = tmp_path / "out.xyz"
    path.write_text("precious")
    arguments = ["predict", trained.saved_model, data, "-o", path]
    refuse(arguments, "must be a new file", "--overwrite")
    assert path.read_text() == "precious"
    run(*arguments, "--overwrite")
    assert len(ase.io.read(path, ":")) == 10


def test_full_disk_leaves_the_earlier_file(
    refuse, trained, data, tmp_path, monkeypatch
):
    path = tmp_path / "out.xyz"
    path.write_text("precious")
    write = ase.io.write

    def fill(target, images, **options):
        write(target, images[:2], **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ase.io, "write", fill)
    arguments = ["predict", trained.saved_model, data, "-o", path, "--overwrite"]
    refuse(arguments, "No space left on device")
    assert path.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["out.xyz"]


def test_bad_structure(refuse, trained, crystals, tmp_path):
    data, path = tmp_path / "data.xyz", tmp_path / "out.xyz"
    ase.io.write(data, [crystals[0], Atoms("H")])
    refuse(
        ["predict", trained.saved_model, data, "-o", path],
        "trained on Cu, Au",
        "Received: H in 1 of 2 structures, first in structure 1",
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("output", "options", "text"),
    [
        ("out.traj", [], "must be the name of an extended XYZ file"),
        (".", [], "must be the name of an extended XYZ file"),
        ("out.xyz", ["--batch-size", "0"], "`--batch-size` must be positive"),
    ],
)
def test_bad_options(refuse, trained, data, tmp_path, output, options, text):
    output = tmp_path / output
    refuse(["predict", trained.saved_model, data, "-o", output, *options], text)
    assert not list(tmp_path.iterdir())


def test_missing_files(refuse, trained, data, tmp_path):
    path = tmp_path / "out.xyz"
    refuse(["predict", tmp_path / "no", data, "-o", path], "A potential is a", "no'")
    refuse(
        ["predict", trained.saved_model, tmp_path / "no.xyz", "-o", path],
        "a file that exists",
        "no.xyz",
    )
