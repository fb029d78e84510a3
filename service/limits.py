"""What a child process may take, and how it ends with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

__all__ = ["die_with_parent", "keep_memory", "lift_memory_limit", "limit_memory", "set_no_new_privileges"]

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

#: glibc's parameters of `mallopt`, and from which sizes on memory goes back to the kernel.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = 2**28, 2**26


def limit_memory(megabytes: int) -> None:
    """Let this process map at most ``megabytes`` more than it has mapped now; beyond, allocations fail.

    The limit is on address space, which fails in the allocation that is too much, where a limit on resident memory
    would let the kernel choose a victim. Systems without ``RLIMIT_AS`` (macOS ignores it) are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = mapped + megabytes * 2**20
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def lift_memory_limit() -> None:
    """Undo `limit_memory`, so that the end of a job can be written down."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def keep_memory() -> None:
    """Keep freed memory in this process and its forks instead of handing it back to the kernel and asking anew.

    Bounds allocate and free matrices of some MiB all the time, see `bounds.child`. Other C libraries are left alone.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def die_with_parent(parent: int, sent: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent, process ``parent``, ends (Linux).

    Elsewhere the job's heartbeat notices the parent's end by its pipe.
    """
    _prctl(_PR_SET_PDEATHSIG, sent)
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(1)


def set_no_new_privileges() -> None:
    """Give up that programs started from here could have more rights than this process (Linux)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
