"""What the command tells TensorFlow, which reads it when it is loaded."""

import os

import pytest

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
        for name in NAMES:
            monkeypatch.setenv(name, "")  # restored, whatever happens to it
            monkeypatch.delenv(name)
        monkeypatch.setenv("TFPES_CACHE", str(tmp_path))
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        seen = {}
        monkeypatch.setattr(tfpes.cli, "app", lambda: seen.update(os.environ))
        tfpes_command.main()
        return [seen.get(name) for name in NAMES]

    return run


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
