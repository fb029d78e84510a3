"""Start the service, ask it about two networks over HTTP, and print the evidence that it answers with.

    python examples/demo.py

Both networks classify 8×8 digits (see ``train.py``). The question is the same: does every image within 0.1 of one test
image, pixel by pixel, keep its class? The service runs with an embedded queue and a temporary data directory, and stops
at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from netproof.client import Client, Job
from netproof.local import local_service
from netproof.report import report

HERE = Path(__file__).parent
INDEX = 10
EPSILON = "0.1"


def main() -> int:
    """Return 0 if the robust network was proven and the plain one refuted."""
    with np.load(HERE / "digits.npz") as digits:
        image, label = digits["images"][INDEX], int(digits["labels"][INDEX])
    show(image, f"test image {INDEX}, a {label}")
    verdicts = []
    click.echo("starting the service: web process, embedded queue, one worker …")
    with local_service(workers=1) as url, Client(url) as client:
        for name in ("digits_robust.onnx", "digits_plain.onnx"):
            click.echo(f"\nPOST {url}/v1/verify  {name}, every pixel ±{EPSILON} within [0, 1]")
            job = client.verify(HERE / name, input=image, label=label, epsilon=EPSILON, domain=(0, 1), certificate=True)
            verdicts.append(job.verdict)
            evidence(job, image)
    click.echo("the service has stopped")
    if verdicts != ["robust", "counterexample"]:
        click.echo(f"expected a robust and a counterexample verdict, got {verdicts}", err=True)
        return 1
    return 0


def evidence(job: Job, image: NDArray[Any]) -> None:
    """Print what one job found out."""
    assert job.result is not None
    click.echo(report(job.result, center=image.reshape(-1).astype(float).tolist()))
    if job.counterexample is not None:
        wrong = int(job.counterexample.output.argmax())
        show(job.counterexample.input, f"the counterexample, which the network takes for a {wrong}")


def show(image: NDArray[Any], title: str) -> None:
    """Print an 8×8 image, two characters a pixel."""
    shades = " .:-=+*#%@"
    click.echo(f"\n  {title}")
    for row in image.reshape(8, 8):
        click.echo("    " + "".join(2 * shades[round(float(value) * 9)] for value in row).rstrip())
    click.echo()


if __name__ == "__main__":
    sys.exit(main())
