"""Several processes of one command on this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

# Who fails alike, as with wrong data, says so by itself.
_PATIENCE = 5.0


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``tfpes`` with these arguments as processes of one cluster.

    The first one, the chief, prints. When one fails, or the chief has ended, the others
    are ended.

    Args:
        processes: their number.
        arguments: of the command.

    Returns:
        An exit code, that of the chief if it ended by itself.
    """
    workers = [f"127.0.0.1:{port}" for port in _free_ports(processes)]
    cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    threads = max(len(cores(0)) // processes, 1)
    # A signal ends this process as an error does: with the others.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, before)
        logs = [
            stack.enter_context(tempfile.TemporaryFile("w+"))
            for _ in range(processes - 1)
        ]
        running: list[subprocess.Popen] = []
        stack.callback(_end, running)
        for rank in range(processes):
            task = {"type": "worker", "index": rank}
            config = json.dumps({"cluster": {"worker": workers}, "task": task})
            quiet: dict[str, Any] = {}
            if rank:
                quiet = {"stdout": subprocess.DEVNULL, "stderr": logs[rank - 1]}
            process = subprocess.Popen(
                [sys.executable, "-m", "tfpes", *arguments],
                env={
                    "TF_NUM_INTRAOP_THREADS": str(threads),
                    **os.environ,
                    "TF_CONFIG": config,
                },
                **quiet,
            )
            running.append(process)
        interrupted = False
        while running[0].poll() is None:
            failed = [rank for rank, p in enumerate(running) if p.poll()]
            try:
                if failed and not interrupted:
                    return _failed(failed[0], running, logs)
                time.sleep(0.1)
            except KeyboardInterrupt:
                # The chief got it as well, and writes what was learned.
                interrupted = True
        return running[0].returncode


def _failed(rank: int, running: list[subprocess.Popen], logs: list[Any]) -> int:
    """Let the chief end by itself, or tell why another process has failed."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = running[0].wait(_PATIENCE)
        return code if code > 0 else 1
    logs[rank - 1].seek(0)
    sys.stderr.write(
        f"{logs[rank - 1].read()[-2000:]}\nError: process {rank + 1} of {len(running)} "
        f"ended with code {running[rank].returncode}; the others are ended.\n"
    )
    return 1


def _end(running: list[subprocess.Popen]) -> None:
    """End processes that are left, and wait until they have gone."""
    for stop in (subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in running:
            if process.poll() is None:
                stop(process)
        deadline = time.monotonic() + _PATIENCE
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.1))


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
