"""A wall clock that tests set for one service; steady clocks go on as they are."""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

__all__ = ["FakeClock"]


class FakeClock:
    """The wall clock of whatever runs with `variables`; files of it lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / "offset", folder / "clock.so"
        self.variables: dict[str, str] = {}
        self.set(timedelta())
        compiler = shutil.which("cc")
        if compiler is not None:
            source = Path(__file__).with_suffix(".c")
            command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source, "-ldl"]
            subprocess.run(command, check=True)
            self.variables = {"LD_PRELOAD": str(library), "TEST_CLOCK": str(self._file)}

    def set(self, ahead: timedelta) -> bool:
        """Let the clock be ahead of this machine's; False where there is no compiler and nothing changes."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", round(ahead.total_seconds())))
        return bool(self.variables)
