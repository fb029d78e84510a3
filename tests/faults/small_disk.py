"""A small file system for one service under test, which can be filled and emptied."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["SmallDisk"]


class SmallDisk:
    """A file system at ``folder`` that only one process and its children see, and that goes with them."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._pid: int | None = None

    def command(self) -> list[str]:
        """A prefix that starts a process on the small disk; skips the test where this machine does not allow it."""
        own = _own_mounts()
        if own is None:
            pytest.skip("this machine lets tests mount no file systems: run them as root, or allow user namespaces")
        script = f'mount -t tmpfs -o size={self._megabytes}m none "$0" && exec "$@"'
        return [*own, "sh", "-c", script, str(self.folder)]

    def seen_by(self, pid: int) -> None:
        """Look at it as this process does."""
        self._pid = pid

    @property
    def path(self) -> Path:
        """The folder, as the processes that live there see it."""
        return Path(f"/proc/{self._pid}/root{self.folder}")

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (2**20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)

    def free(self) -> None:
        """Make room again."""
        (self.path / "ballast").unlink(missing_ok=True)


@functools.cache
def _own_mounts() -> tuple[str, ...] | None:
    """A prefix that gives a process mounts of its own; None where there is none."""
    program = shutil.which("unshare")
    if program is None:
        return None
    for options in (("--mount",), ("--user", "--map-root-user", "--mount")):
        probe = [program, *options, "sh", "-c", "mount -t tmpfs none /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return (program, *options)
    return None
