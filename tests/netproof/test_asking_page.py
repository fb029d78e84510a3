"""The page of examples says what is true: as commands, from Python and over HTTP."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import netproof
from netproof.client import Client
from solver.question import MEMBERS
from tests.netproof.conftest import EXAMPLES
from tests.service.serving import Service

ROOT = EXAMPLES.parent
PAGE = (ROOT / "docs" / "asking.md").read_text()
_EXAMPLE = re.compile(
    r"^```console\n\$ netproof (?P<command>[^\n]+)\n(?P<said>[^\n]+)\n```\n"
    r"(?:```json (?P<file>\S+)\n(?P<content>.*?)```\n)?(?:```json\n(?P<query>.*?)```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    command: list[str]
    said: str
    file: str | None
    content: str | None
    query: str | None

    @property
    def network(self) -> Path:
        return ROOT / self.command[1]

    def members(self, image: np.ndarray) -> dict[str, Any]:
        assert self.query is not None
        return dict(json.loads(self.query.replace("[…]", json.dumps(image.reshape(-1).tolist()))))


def examples() -> list[Example]:
    found = []
    for match in _EXAMPLE.finditer(PAGE):
        said = match["said"].partition("\n")[0]
        found.append(Example(match["command"].split(), said, match["file"], match["content"], match["query"]))
    return found


ASKED = [example for example in examples() if example.query is not None]


def title(example: Example) -> str:
    return " ".join(example.command[-4:])


def check(example: Example, verdict: str, lower: float, upper: float) -> None:
    """The verdict is the one on the page, or lies where the page says."""
    number = re.search(r"between (\S+)", example.said)
    if number is not None:
        assert lower <= upper <= lower + 1e-4
        assert f"{lower:.7f}".startswith(number[1])
    elif example.said != "output":
        assert verdict == example.said


def test_every_member_has_an_example() -> None:
    asked = set().union(*(example.members(np.zeros(64)) for example in ASKED))
    assert set(MEMBERS) - asked == {"radii", "vnnlib", "tolerance"}
    for name in MEMBERS:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("example", examples(), ids=title)
def test_commands(example: Example, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    if example.file is not None:
        (tmp_path / example.file).write_text(str(example.content))
    answer = run(*example.command, "--threads", "1")
    assert click.unstyle(answer.out).lstrip().startswith(example.said), answer


@pytest.mark.slow
@pytest.mark.parametrize("example", ASKED, ids=title)
def test_python(example: Example, digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    verdict = netproof.verify(example.network, **example.members(digits[0][10]), threads=1)
    check(example, str(verdict.outcome), *(verdict.distance or verdict.margin))


@pytest.mark.parametrize("example", ASKED, ids=title)
def test_http(example: Example, digits: Any, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with Client(service.url) as client:
        job = client.verify(example.network, **example.members(digits[0][10]))
    interval = job.distance if job.kind == "distance" else job.margin
    check(example, str(job.verdict), *(-np.inf if end is None else end for end in interval))


def test_the_python_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert str(names["verdict"].outcome) == "counterexample"
