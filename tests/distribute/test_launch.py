import os
import time

import pytest

from tfpes.distribute import launch as module
from tfpes.distribute.launch import launch

PROGRAM = """
import json, os, pathlib, sys, time
task = json.loads(os.environ["TF_CONFIG"])
rank, workers = task["task"]["index"], task["cluster"]["worker"]
pathlib.Path(sys.argv[2], str(rank)).write_text(f"{os.getpid()} {len(set(workers))}")
{
    "well": lambda: None,
    "killed": lambda: os.kill(os.getpid(), 9 if rank == 1 else 0) or time.sleep(60),
    "wrong data": lambda: sys.exit("wrong" if rank == 0 else 5),
    "worker fails": lambda: sys.exit("no room") if rank == 2 else time.sleep(60),
    "chief ends": lambda: time.sleep(60) if rank else sys.exit(0),
}[sys.argv[1]]()
"""


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("well", 0, ""),
        ("killed", 1, "process 2 of 3 ended with code -9; the others are ended"),
        ("wrong data", 1, "wrong"),
        ("worker fails", 1, "no room"),
        ("chief ends", 0, ""),
    ],
)
def test_processes_end_together(tmp_path, monkeypatch, capfd, case, code, message):
    package = tmp_path / "tfpes"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_PATIENCE", 1.0)
    start = time.monotonic()
    assert launch(3, [case, str(tmp_path)]) == code
    assert time.monotonic() - start < 30
    assert message in capfd.readouterr().err
    for rank in range(3):
        file = tmp_path / str(rank)
        # One that was ended early has not begun.
        process, workers = file.read_text().split() if file.exists() else (0, "3")
        assert workers == "3"
        if process:
            with pytest.raises(ProcessLookupError):
                os.kill(int(process), 0)
