import ase.io
import pytest


@pytest.fixture
def data(crystals, tmp_path):
    """Return two files; the last structure of the second is the first of all."""
    ase.io.write(tmp_path / "first.xyz", crystals[:5])
    ase.io.write(tmp_path / "second.xyz", [*crystals[5:], crystals[0]])
    return tmp_path / "first.xyz", tmp_path / "second.xyz"


@pytest.mark.slow
def test_page_of_two_files_and_a_model(run, data, trained, tmp_path):
    page = tmp_path / "new" / "page.html"
    result = run("diagnose", *data, "--model", trained.keras_file, "-o", page)
    text = page.read_text()
    assert "Diagnosis of first.xyz, second.xyz and of model.keras" in text
    assert "Errors of the model" in text
    # The cutoff is that of the model, not the default.
    assert "within 4 Å" in result.output
    # Index 8 is frame 3 of the second file.
    assert "second.xyz #3" in text
    assert "same atoms, cell and positions as structure 0" in text
    output = " ".join(result.output.split())
    assert "* An earlier structure is repeated by 1 structure (8)." in output
    assert str(page) in result.output.replace("\n", "")
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


@pytest.mark.slow
def test_default_name_and_no_overwriting(run, refuse, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "first-diagnosis.html"
    page.write_text("mine")
    refuse(["diagnose", data[0]], "`--output` must be a new file", "`--overwrite`")
    assert page.read_text() == "mine"
    run("diagnose", data[0], "--overwrite")
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_failure_leaves_the_old_page(refuse, data, tmp_path, monkeypatch):
    def fail(*arguments):
        raise ValueError("stopped by the test")

    monkeypatch.setattr("tfpes.cli.diagnose.to_html", fail)
    page = tmp_path / "page.html"
    page.write_text("mine")
    refuse(["diagnose", data[0], "-o", page, "--overwrite"], "stopped by the test")
    assert page.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cutoff", "0"], "`--cutoff` must be positive"),
        (["--energy-key", "dft"], "'dft', under which none of"),
        (["--model", "absent.keras"], "which does not exist"),
        (["-o", "page.pdf"], "`--output` must be the name of a .html file"),
    ],
)
def test_bad_options(refuse, data, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    refuse(["diagnose", data[0], *arguments], text)
    assert sorted(tmp_path.iterdir()) == before


def test_elements_that_the_model_does_not_know(
    refuse, crystals, labelled, trained, tmp_path
):
    silver = labelled(crystals[0], energy=-1.0)
    silver.numbers[0] = 47
    data, page = tmp_path / "silver.xyz", tmp_path / "page.html"
    ase.io.write(data, [silver] * 3)
    refuse(["diagnose", data, "--model", trained.keras_file, "-o", page], "Ag")
    assert not page.exists()
