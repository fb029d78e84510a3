"""What a process may still do once it reads a stranger's file: compute, read that file, and answer.

`confine` is irrevocable, and layered, since no layer exists everywhere:

* resource limits (everywhere): memory, CPU seconds, the size of files that it writes, no core dumps;
* ``no_new_privs`` (Linux): no program that it could start would gain rights;
* Landlock (Linux 5.13): it opens the files that it was given, the interpreter and the libraries, and nothing else; it
  makes no file; it cannot look into other processes;
* seccomp (Linux with libseccomp): no socket, no other program, no other process, no tracing, no mounts, no modules.

A layer that the system does not have is named in what `confine` returns, and the readers' server logs that once.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import resource
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from service.limits import limit_memory, set_no_new_privileges

__all__ = ["confine"]

#: Bytes of diagnostics that a reader may leave in its log file, the only file that it writes unless given others.
_LOG_BYTES = 2**16

#: Where an interpreter and its libraries lie, and what they look up about the machine.
_SYSTEM: tuple[str, ...] = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/dev/null")
_SYSTEM += ("/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup")


def confine(
    *, memory_mb: int, seconds: float, reads: Sequence[Path] = (), writes: Sequence[Path] = (), most_bytes: int = 0
) -> list[str]:
    """Restrict this process for the rest of its life; call it when everything needed is imported.

    Args:
        memory_mb: what it may allocate beyond what it has.
        seconds: CPU seconds that it may still use; a whole number is what the kernel counts.
        reads: files that it may open for reading.
        writes: existing files that it may open for writing.
        most_bytes: size up to which it may write them.

    Returns:
        The layers that this system does not have, each with the reason; empty on an up-to-date Linux.
    """
    limit_memory(memory_mb)
    _limit(resource.RLIMIT_CPU, math.ceil(_cpu_seconds() + seconds))
    _limit(resource.RLIMIT_FSIZE, max(most_bytes, _LOG_BYTES))
    _limit(resource.RLIMIT_CORE, 0)
    if not sys.platform.startswith("linux"):
        return [f"Landlock and seccomp: not on {sys.platform}"]
    _prefer_as_victim()
    set_no_new_privileges()
    missing = []
    layers: dict[str, Callable[[], None]] = {
        "Landlock": lambda: _restrict_files(reads, writes),
        "seccomp": _restrict_calls,
    }
    for name, layer in layers.items():
        try:
            layer()
        except OSError as error:
            missing.append(f"{name}: {error.strerror or error}")
    return missing


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _prefer_as_victim() -> None:
    """Where the machine runs out of memory, the kernel ends readers before anything else."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


# --- Landlock: linux/landlock.h; the numbers of its calls are the same on every architecture -----------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
#: Rights on files that each version of the interface knows: 13 at first, then REFER, TRUNCATE and IOCTL_DEV.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
#: From version 4 on, binding and connecting TCP; from 6 on, abstract sockets of, and signals to, processes outside.
_NETWORK_RIGHTS, _SCOPES = 0b11, 0b11


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _restrict_files(reads: Iterable[Path], writes: Iterable[Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version = _checked(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG))
    rights = _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]
    described = _Ruleset(rights, _NETWORK_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _checked(libc.syscall(_CREATE_RULESET, ctypes.byref(described), ctypes.c_size_t(size), 0))
    try:
        for path in (*map(Path, _SYSTEM), *_program_folders(), *reads):
            _allow(libc, rules, path, rights & (_READ_FILE | _READ_DIR))
        for path in writes:
            _allow(libc, rules, path, rights & (_READ_FILE | _WRITE_FILE | _TRUNCATE))
        _checked(libc.syscall(_RESTRICT_SELF, rules, 0))
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a system without that folder
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        rule = _PathBeneath(rights, handle)
        _checked(libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(handle)


def _program_folders() -> set[Path]:
    """Where Python's modules lie, and our own; not every entry of ``sys.path``, of which the first may be anything."""
    standard = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    own = Path(__file__).parents[1]
    packages = (own / name for name in ("certificates", "networks", "service", "solver"))
    return {*packages, Path(sys.base_prefix), *(Path(path) for path in standard if path)}


# --- seccomp, by libseccomp, which knows the numbers of calls on every architecture --------------------------------

_LIBRARY = "libseccomp.so.2"
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_UNEQUAL, _MASKED_EQUAL, _CLONE_THREAD = 1, 7, 0x00010000
#: Nothing that a parser needs, whatever it parses.
_FORBIDDEN = (
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("execve", "execveat", "fork", "vfork"),
    *("kill", "tkill", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "ptrace"),
    *("process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "setrlimit"),
    *("unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "creat", "truncate"),
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "fsetxattr"),
    *("mount", "umount2", "move_mount", "fsopen", "open_tree", "pivot_root", "chroot", "unshare", "setns", "swapon"),
    *("init_module", "finit_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "keyctl", "add_key", "request_key", "memfd_create", "reboot", "settimeofday", "clock_settime"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setns", "personality"),
)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("datum", ctypes.c_uint64),
        ("masked", ctypes.c_uint64),
    )


def _restrict_calls() -> None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise OSError(errno.ENOENT, "libseccomp is not installed") from error
    library.seccomp_init.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not handle.value:
        raise OSError(errno.ENOMEM, "libseccomp gives no filter")
    try:
        for name in _FORBIDDEN:
            _refuse(library, handle, name, errno.EPERM)
        # a thread is a clone that shares memory; clone3 hides its flags, and C libraries fall back to clone without it
        _refuse(library, handle, "clone", errno.EPERM, _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, 0))
        _refuse(library, handle, "prlimit64", errno.EPERM, _Comparison(2, _UNEQUAL, 0, 0))  # looking is allowed
        _refuse(library, handle, "clone3", errno.ENOSYS)
        _status(library.seccomp_load(handle))
    finally:
        library.seccomp_release(handle)


def _refuse(
    library: ctypes.CDLL, handle: ctypes.c_void_p, name: str, code: int, condition: _Comparison | None = None
) -> None:
    call = library.seccomp_syscall_resolve_name(name.encode())
    if call < 0:
        return  # not a call of this architecture, or younger than the library
    count, array = (1, ctypes.byref(condition)) if condition is not None else (0, None)
    action = ctypes.c_uint32(_REFUSE | code)
    _status(library.seccomp_rule_add_array(handle, action, call, ctypes.c_uint(count), array))


def _status(negated: int) -> None:
    if negated < 0:
        raise OSError(-negated, os.strerror(-negated))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
