"""Verifiers that others wrote, run on the same instances, on the same machine and within the same limits.

A peer is optional and never imported here: it runs as a program of a Python that may be another one than this, so
that it can live in an environment of its own. Its seconds include its start and its reading of the files, and
its answers are taken at its word: no counterexample of a peer is replayed, no tolerance of a peer is judged. Only the
known answers tell whether it is right.
"""

from __future__ import annotations

import gzip
import math
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import Decide, Limits, Tell
from benchmarks.instances import Instance
from benchmarks.records import Answer

__all__ = ["PEERS", "missing", "peer"]

_MARABOU = {"sat": Answer.COUNTEREXAMPLE, "unsat": Answer.ROBUST}


def _marabou(python: str, tell: Tell, folder: Path, instance: Instance, limits: Limits) -> dict[str, Any]:
    """Marabou (Wu et al. 2024) from the package maraboupy, which reads ONNX and VNNLIB itself."""
    tell({"load_seconds": 0.0})
    tell({"read_seconds": 0.0})
    seconds = limits.allowed(instance)
    with tempfile.TemporaryDirectory(prefix="netproof-peer-") as place:
        onnx, vnnlib = (
            _plain(folder / instance.family / name, Path(place)) for name in (instance.onnx, instance.vnnlib)
        )
        summary = Path(place, "summary.txt")
        command = [python, "-W", "ignore", "-m", "maraboupy", str(onnx), str(vnnlib)]
        # Whole seconds are all that it takes, and 0 means forever.
        command += ["--timeout", str(max(1, math.ceil(seconds))), "--num-workers", str(limits.threads)]
        command += ["--verbosity", "0", "--summary-file", str(summary)]
        began = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 1, cwd=place, check=False)
        except subprocess.TimeoutExpired:
            return {"answer": Answer.UNKNOWN, "reason": "timeout", "seconds": seconds}
        taken = time.monotonic() - began
        said = summary.read_text().split()[0] if summary.exists() else ""
    if said in _MARABOU and taken <= seconds:
        return {"answer": _MARABOU[said], "seconds": taken, "decided_by": "marabou"}
    if said:
        return {"answer": Answer.UNKNOWN, "reason": said.lower(), "seconds": taken}
    words = (done.stderr.strip() or done.stdout.strip()).splitlines()
    detail = words[-1] if words else f"ended with exit code {done.returncode}"
    return {"answer": Answer.REFUSED, "reason": "marabou", "seconds": taken, "detail": detail}


def _plain(path: Path, place: Path) -> Path:
    """The file itself, or an unpacked copy in ``place``."""
    if path.suffix != ".gz":
        return path
    copy = place / path.stem
    copy.write_bytes(gzip.decompress(path.read_bytes()))
    return copy


_DECIDE = {"marabou": _marabou}
_MODULES = {"marabou": "maraboupy"}

#: What can be run beside netproof.
PEERS = tuple(_DECIDE)


def peer(name: str, python: str) -> Decide:
    """What runs one of `PEERS` that is installed for the interpreter ``python``."""
    return partial(_DECIDE[name], python)


def missing(name: str, python: str) -> str:
    """What to do before a peer can run; "" if it can."""
    module = _MODULES[name]
    try:
        done = subprocess.run([python, "-W", "ignore", "-c", f"import {module}"], capture_output=True, check=False)
    except OSError as error:
        return f"{python} does not start: {error}; name a Python with --peer-python"
    if done.returncode == 0:
        return ""
    return f"{name} needs the package {module}, which {python} does not have; name a Python that has it: --peer-python"
