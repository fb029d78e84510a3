"""Limits on child processes, each tried in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.settings import Settings
from solver.sizes import is_memory_error

#: Holds the interpreter's global lock in native code, as a solver should not but may; only C-level deadlines act.
DEADLOCK = """
import ctypes
from service import job
from service.settings import Settings
from types import SimpleNamespace

job._LAST_RESORT_SECONDS = 0.0
record = SimpleNamespace(id="x", attempt=1, time_limit=0.2)
with job._deadline(record, Settings(grace_seconds=0.1)):
    ctypes.PyDLL(None).sleep(30)
"""

MEMORY = """
from service.limits import lift_memory_limit, limit_memory
limit_memory(256)
bytearray(64 * 2**20)
try:
    bytearray(512 * 2**20)
except MemoryError:
    lift_memory_limit()
    bytearray(512 * 2**20)
    print("limited")
"""

PARENT = """
import os, subprocess, sys, time
code = "import os, sys, time; from service.limits import die_with_parent; die_with_parent(int(sys.argv[1]));"
code += "print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", code, str(os.getpid())])
time.sleep(60)
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="rests on Linux system calls")


def python(code: str, **settings: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **settings}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def test_deadline_holds_while_native_code_keeps_the_global_lock(tmp_path: Path) -> None:
    started = time.monotonic()
    with python(DEADLOCK, NETPROOF_DATA_DIR=str(tmp_path)) as child:
        assert child.wait(20) == 1
    assert time.monotonic() - started < 20
    log = (Settings(data_dir=tmp_path).log_dir / "deadlines.log").read_text()
    assert log.startswith("job x attempt 1")
    assert "Timeout" in log


@linux
def test_memory_limit_fails_the_allocation_that_is_too_much_and_can_be_lifted() -> None:
    with python(MEMORY) as child:
        assert child.communicate(timeout=20)[0] == "limited\n"


@linux
def test_child_dies_with_its_parent() -> None:
    with python(PARENT) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("shapes do not match"), False),
        (None, False),
    ],
)
def test_memory_errors_are_known_by_type_and_by_words(error: BaseException | None, expected: bool) -> None:
    assert is_memory_error(error) is expected
