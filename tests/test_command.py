"""The command sets what TensorFlow reads when it is loaded, unless the user has."""

import os

import pytest

import tfpes.cli
import tfpes_command


@pytest.mark.parametrize("given", [{}, {"TF_CPU_ALLOCATOR_USE_BFC": "0"}])
def test_allocator(monkeypatch, given):
    names = ("TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB")
    for name in names:
        monkeypatch.setenv(name, "")  # restored, whatever happens to it
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    seen = {}
    monkeypatch.setattr(tfpes.cli, "app", lambda: seen.update(os.environ))
    tfpes_command.main()
    assert seen[names[0]] == given.get(names[0], "1")
    # Enough for data that fit in memory; TensorFlow's own limit is 65 536.
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert int(seen[names[1]]) == pages // 2**20
