"""The command line as a function, files to feed it, and a service to speak to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from netproof.cli import main
from tests.service.serving import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
#: A query about the digits that takes a fraction of a second whatever the verdict.
BALL = ("--data", str(EXAMPLES / "digits.npz"), "--index", "10", "--domain", "0", "1", "--threads", "1")


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run the command line in this process; its exit code and what it wrote."""

    def call(*arguments: str | Path) -> Answer:
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(int(exit_.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker, which has answered nothing yet."""
    running = Service(tmp_path_factory.mktemp("service"))
    running.ready_worker()
    yield running
    running.close()


@pytest.fixture(scope="session")
def plain() -> Path:
    return EXAMPLES / "digits_plain.onnx"


@pytest.fixture(scope="session")
def robust() -> Path:
    return EXAMPLES / "digits_robust.onnx"


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(EXAMPLES / "digits.npz") as file:
        return file["images"], file["labels"]
