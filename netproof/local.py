"""A service of one's own for a while: for demonstrations, notebooks, benchmarks and tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from networks.errors import NetproofError

__all__ = ["NotReadyError", "local_service"]


class NotReadyError(NetproofError, RuntimeError):
    """The service ended, or did not become ready in time; the message holds the end of its log."""


@contextlib.contextmanager
def local_service(
    *, workers: int = 1, folder: Path | None = None, start_seconds: float = 60.0, options: Sequence[str] = ()
) -> Iterator[str]:
    """The URL of ``netproof serve`` on a free port of this machine, with an embedded queue; it stops with the context.

    Args:
        workers: processes that solve.
        folder: where the service keeps its data; by default a temporary folder that is removed afterwards.
        start_seconds: how long it may take to become ready.
        options: further ones of ``netproof serve``.

    Raises:
        NotReadyError: it does not become ready.
    """
    with contextlib.ExitStack() as stack:
        data = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netproof-")))
        data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "netproof", "serve", "--port", "0"]
        # The caller's own settings would point this service at the caller's real ledger and queue.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("NETPROOF_")}
        log, said = data / "service.log", data / "service.out"
        with log.open("wb") as errors, said.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--workers", str(workers), "--data-dir", str(data), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment,
            )
        stack.callback(_stop, process)
        yield _ready_url(process, said, log, start_seconds)


def _ready_url(process: subprocess.Popen[bytes], said: Path, log: Path, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        line, newline, _ = said.read_text().partition("\n")
        if newline:
            url = line.split()[-1]
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz", timeout=5).is_success:
                    return url
        time.sleep(0.1)
    code = process.poll()
    state = f"is not ready after {seconds:g} s" if code is None else f"ended with code {code}"
    msg = f"the service {state}; the end of its log:\n{log.read_text(errors='replace')[-2000:]}"
    raise NotReadyError(msg)


def _stop(process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
