"""Start the service, ask it about two networks over HTTP, and print the evidence that it answers with.

    python examples/demo.py

Both networks classify 8×8 digits (see ``train.py``). The question is the same: does every image within 0.1 of one
test image, pixel by pixel, keep its class? The service runs with an embedded queue and a temporary data directory, and
is stopped at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import numpy as np

from netproof.client import Client, Job
from netproof.report import report

HERE = Path(__file__).parent
INDEX = 10
EPSILON = "0.1"


def main() -> int:
    """Return 0 if the robust network was proven and the plain one refuted."""
    with np.load(HERE / "digits.npz") as digits:
        image, label = digits["images"][INDEX], int(digits["labels"][INDEX])
    show(image, f"test image {INDEX}, a {label}")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="netproof-demo-") as folder, service(Path(folder)) as url:
        click.echo(f"netproof serves at {url}\n")
        with Client(url) as client:
            for name in ("digits_robust.onnx", "digits_plain.onnx"):
                click.echo(f"POST {url}/v1/verify   {name}, every pixel ±{EPSILON} within [0, 1]")
                job = client.verify(HERE / name, input=image, label=label, epsilon=EPSILON, domain=(0, 1))
                outcomes.append(job.verdict)
                evidence(job, image)
    click.echo("the service has stopped")
    if outcomes != ["robust", "counterexample"]:
        click.echo(f"expected a robust and a counterexample verdict, got {outcomes}", err=True)
        return 1
    return 0


def evidence(job: Job, image: np.ndarray) -> None:
    """Print what one job found out."""
    assert job.result is not None
    click.echo(report(job.result, center=image.reshape(-1).astype(float).tolist()))
    if job.counterexample is not None:
        wrong = int(job.counterexample.output.argmax())
        show(job.counterexample.input, f"the counterexample, which the network takes for a {wrong}")
    click.echo()


def show(image: np.ndarray, title: str) -> None:
    """Print an 8×8 image, two characters a pixel."""
    shades = " .:-=+*#%@"
    click.echo(f"\n  {title}")
    for row in image.reshape(8, 8):
        click.echo("    " + "".join(2 * shades[round(float(value) * 9)] for value in row))
    click.echo()


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """The URL of a service that runs while the context lasts, with all its state in ``folder``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    command = [sys.executable, "-m", "netproof", "serve", "--port", str(port), "--workers", "1"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NETPROOF_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--data-dir", str(folder / "data")], stdout=output, stderr=output, env=environment
        )
    try:
        wait_until_ready(url, process, log)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Return once the service says that it would work on a job now.

    Raises:
        RuntimeError: the service ended or is not ready in time; the message holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        time.sleep(0.1)
    state = "is not ready" if process.poll() is None else f"ended with code {process.returncode}"
    msg = f"the service {state}; the end of its log:\n{log.read_text(errors='replace')[-2000:]}"
    raise RuntimeError(msg)


if __name__ == "__main__":
    sys.exit(main())
