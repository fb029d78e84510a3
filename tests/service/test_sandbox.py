"""A confined process reads what it was given, computes and answers; everything else fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.sandbox import confine
from tests.service.serving import NETWORK

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox rests on Linux")

ROOT = Path(__file__).parents[2]

#: Confines itself with the files that it is given, then runs statements and says how each ended.
PROBE = """
import os, pathlib, resource, signal, socket, subprocess, sys, threading
import networks
from networks import comparison
from networks.runtime import onnx_runtime
from service.sandbox import confine
onnx_runtime()
given, out, secret, seconds, *statements = sys.argv[1:]
missing = confine(
    memory_mb=512, seconds=float(seconds), reads=[pathlib.Path(given)], writes=[pathlib.Path(out)], most_bytes=2**17
)
print(";".join(missing), flush=True)
for statement in statements:
    try:
        exec(statement)
    except (OSError, MemoryError, ValueError) as error:
        print(type(error).__name__, getattr(error, "errno", None))
    else:
        print("done")
"""


def probe(folder: Path, *statements: str, seconds: float = 20) -> tuple[int, list[str]]:
    """Exit status and output of a process that confines itself and then runs ``statements``."""
    given, out, secret = (folder / name for name in ("given.onnx", "out", "secret"))
    given.write_bytes(NETWORK)
    out.write_bytes(b"")
    secret.write_text("password")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, (given, out, secret, seconds)), *statements],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


REFUSED_BY_LANDLOCK = {
    "reading another file": "open(secret)",
    "reading users": "open('/etc/passwd')",
    "listing a folder": "os.listdir(pathlib.Path(secret).parent)",
    "a new file": "open(secret + '2', 'w')",
    "writing what it may read": "open(given, 'r+')",
    "the parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
}
REFUSED_BY_SECCOMP = {
    "a socket": "socket.socket()",
    "a local socket": "socket.socketpair()",
    "another program": "os.execv('/bin/true', ['true'])",
    "another process": "os.fork()",
    "a shell": "subprocess.run(['/bin/true'])",
    "a signal to its parent": "os.kill(os.getppid(), 0)",
    "removing a file": "os.unlink(given)",
    "renaming a file": "os.rename(given, given + '2')",
    "changing rights": "os.chmod(given, 0o777)",
    "raising its own limits": "__import__('resource').setrlimit(__import__('resource').RLIMIT_CPU, (1, 1))",
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each statement; ``missing`` names the layers that this system does not have."""
    status, lines = probe(tmp_path_factory.mktemp("tried"), *REFUSED_BY_LANDLOCK.values(), *REFUSED_BY_SECCOMP.values())
    assert status == 0
    return dict(zip(["missing", *REFUSED_BY_LANDLOCK, *REFUSED_BY_SECCOMP], lines, strict=True))


@pytest.mark.parametrize("what", REFUSED_BY_LANDLOCK)
def test_files_are_out_of_reach(tried: dict[str, str], what: str) -> None:
    if "Landlock" in tried["missing"]:
        pytest.skip(tried["missing"])
    assert tried[what] == "PermissionError 13"


@pytest.mark.parametrize("what", REFUSED_BY_SECCOMP)
def test_the_rest_of_the_system_is_out_of_reach(tried: dict[str, str], what: str) -> None:
    if "seccomp" in tried["missing"]:
        pytest.skip(tried["missing"])
    assert tried[what] in {"PermissionError 1", "PermissionError 13", "ValueError None"}


def test_what_it_is_for_still_works(tmp_path: Path) -> None:
    status, lines = probe(
        tmp_path,
        "comparison.compare_with_runtime(networks.load(given))",
        "open(out, 'wb').write(bytes(1000))",
        "thread = threading.Thread(target=int); thread.start(); thread.join()",
        "print(*[line for line in open('/proc/self/status') if line.startswith('NoNewPrivs')], end='')",
        "bytearray(2**30)",
        "open(out, 'wb', buffering=0).write(bytes(2**18))",
    )
    assert (status, lines[1:4]) == (0, ["done"] * 3)
    assert lines[4:] == ["NoNewPrivs:\t1", "done", "MemoryError None", "done"]
    assert (tmp_path / "out").stat().st_size == 2**17, "what goes beyond the limit is not written"


def test_seconds_are_limited_by_the_kernel(tmp_path: Path) -> None:
    assert probe(tmp_path, "signal.signal(signal.SIGXCPU, signal.SIG_IGN)", "while True: pass", seconds=0.5)[0] == -9


def test_a_system_without_a_layer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel or the library lacks a layer, the others hold and the lack is told."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            monkeypatch.setattr("service.sandbox._LIBRARY", "libnowhere.so.9")
            monkeypatch.setattr("service.sandbox._CREATE_RULESET", 9999)
            told = confine(memory_mb=256, seconds=5)
            right = told == ["Landlock: Function not implemented", "seccomp: libseccomp is not installed"]
            status = 0 if right else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
