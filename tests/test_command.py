"""What the command says without TensorFlow, and tells TensorFlow."""

import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import tfpes.cli
import tfpes_command

NAMES = (
    "TF_CPU_ALLOCATOR_USE_BFC",
    "TF_CPU_BFC_MEM_LIMIT_IN_MB",
    "TF_FORCE_GPU_ALLOW_GROWTH",
    "TF_XLA_FLAGS",
    "TF_CPP_MIN_LOG_LEVEL",
)


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Return the settings that the app sees, for those that the user has made."""

    def run(**given):
        # TensorFlow itself has been loaded.
        for name in NAMES:
            monkeypatch.setenv(name, "")  # restored, whatever happens to it
            monkeypatch.delenv(name)
        monkeypatch.setenv("TFPES_CACHE", str(tmp_path))
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        tfpes_command.load_tensorflow()
        return [os.environ.get(name) for name in NAMES]

    return run


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "Train a potential on energies and forces"),
        (["-h"], "--install-completion"),
        (["--version"], f"tfpes {tfpes.__version__}"),
        (["tain"], "Did you mean 'train'?"),
    ],
)
def test_without_tensorflow(monkeypatch, arguments, text):
    monkeypatch.setattr(tfpes_command, "load_tensorflow", None)
    assert text in CliRunner().invoke(tfpes_command.app, arguments).output


def test_help_loads_nothing():
    """Neither the package nor what takes longest; 0.2 s on one core of 2026."""
    program = (
        "import sys, tfpes_command\n"
        "try:\n tfpes_command.app(['--help'])\n"
        "except SystemExit:\n"
        " print({'tfpes', 'tensorflow', 'keras', 'ase', 'numpy'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_list_is_that_of_the_commands():
    """The list is written twice, so that it can be read without TensorFlow."""
    commands = typer.main.get_command(tfpes.cli.app).commands
    first = {name: c.help.partition("\n\n")[0] for name, c in commands.items()}
    assert {k: " ".join(v.split()) for k, v in first.items()} == tfpes_command.SUMMARIES


@pytest.mark.slow
@pytest.mark.parametrize("level", [{}, {"TF_CPP_MIN_LOG_LEVEL": "3"}])
def test_module_is_the_command_without_a_log(tmp_path, level):
    """Lines that TensorFlow writes whatever its level would come before our first.

    One of several processes has the level of the process that started it.
    """
    environment = {k: v for k, v in os.environ.items() if k not in NAMES}
    environment |= {"TFPES_CACHE": "", "COLUMNS": "80", **level}
    done = subprocess.run(
        [sys.executable, "-m", "tfpes", "stats", "alloy"],
        capture_output=True, text=True, check=False, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        " ".join(done.stderr.split())
        == "Error: `read` needs a file that exists. Received: 'alloy'. Did you mean "
        "the data set 'alloys'?"
    )


def test_errors_are_seen_again(capfd):
    with tfpes_command._without_stderr():
        os.write(2, b"lost")
    os.write(2, b"kept")
    assert capfd.readouterr().err == "kept"


def test_settings(settings, tmp_path):
    allocator, limit, growth, flags, level = settings()
    assert (allocator, growth, level) == ("1", "true", "3")
    # Enough for data that fit in memory; TensorFlow's own limit is 65 536.
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(limit) == pages // 2**20
    (folder,) = tmp_path.iterdir()
    assert flags == f"--tf_xla_persistent_cache_directory={folder}"


def test_the_user_has_the_last_word(settings):
    assert settings(TFPES_CACHE="")[3] is None
    flags = "--tf_xla_persistent_cache_directory=/mine"
    assert settings(TF_XLA_FLAGS=flags)[3] == flags
    given = {"TF_CPU_ALLOCATOR_USE_BFC": "0", "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    assert settings(**given)[0] == "0"
    assert settings(**given)[2] == "false"


def entry(*fields):
    """Return a protocol buffer of fields of bytes."""
    data = b""
    for number, field in enumerate(fields, start=1):
        size = len(field)
        data += bytes([number << 3 | 2])
        while size > 127:
            data += bytes([size & 127 | 128])
            size >>= 7
        data += bytes([size]) + field
    return data


def test_damaged_programs_are_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPES_CACHE", str(tmp_path))
    folder = tfpes_command.cache_folder()
    whole = entry(b"key", b"x" * 300, b"y" * 100_000)
    files = {
        "whole": whole, "empty": b"", "short": whole[:-1], "tag": whole[:1],
        "head": whole[:200], "long": whole + b"\xff", "other": bytes(range(256)) * 40,
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
    assert tfpes_command.cache_folder() == folder
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_cache_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setenv("TFPES_CACHE", str(tmp_path))
    folder = tfpes_command.cache_folder()
    for number in range(5):
        (folder / str(number)).write_bytes(entry(b"z" * 1000))
        os.utime(folder / str(number), (number, number))
    monkeypatch.setattr(tfpes_command, "_MOST_BYTES", 2500)
    tfpes_command.cache_folder()
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]


def test_no_room_for_a_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFPES_CACHE", str(tmp_path / "file"))
    assert tfpes_command.cache_folder() is None
