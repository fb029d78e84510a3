"""The README and the guides do what they say."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from netproof.cli import main
from netproof.local import local_service
from service.ledger import Ledger
from service.settings import Settings
from tests.docs.blocks import LANGUAGES, Block, Call, blocks, calls, differs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "examples" / "README.md"]
#: Pages whose examples are run, in more ways than here, by tests of their own.
OWN_TESTS = {
    "asking.md": "tests/netproof/test_asking_page.py",
    "auditors.md": "tests/netproof/test_auditors_page.py",
    "ci.md": "tests/netproof/test_client_pages.py",
    "python-client.md": "tests/netproof/test_client_pages.py",
}
#: What a reader starts beside the page, and what the tests put in its place.
SERVICE = "http://127.0.0.1:8000"
_SHELL = re.compile(r"[|&;<>$`(){}*?~]|^\w+=")


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def service() -> Iterator[Callable[[], str]]:
    """The URL of a service that starts when a page first needs one."""
    with ExitStack() as stack:
        started: list[str] = []

        def url() -> str:
            if not started:
                started.append(stack.enter_context(local_service(workers=1)))
            return started[0]

        yield url


class Session:
    """One page being followed, in a folder that has the examples in it."""

    def __init__(self, folder: Path, service: Callable[[], str], printed: Callable[[], str]) -> None:
        self._folder = folder
        self._service = service
        self._printed = printed
        self._names: dict[str, Any] = {"__name__": "__main__"}
        binaries = Path(sys.executable).parent
        self._environment = dict(os.environ) | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
        }

    def follow(self, block: Block) -> None:
        text = block.text.replace(".venv/bin/", "")
        if "netproof admin" in text:
            self._served_once()
        if SERVICE in text:
            text = text.replace(SERVICE, self._service())
        block = Block(block.page, block.line, block.language, block.note, text)
        if block.note:
            path = self._folder / block.note
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        getattr(self, f"_{block.language}")(block)

    def _served_once(self) -> None:
        """What is left in the reader's home by a service that has run there."""
        settings = Settings(data_dir=self._folder / ".local" / "share" / "netproof")
        settings.artifact_dir.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(settings.ledger_url)
        ledger.create()
        ledger.close()

    def _console(self, block: Block) -> None:
        for call in calls(block):
            printed = self._netproof(block, call) if self._is_plain(call) else self._shell(block, call.command)
            missing = differs(call.said, click.unstyle(printed))
            assert missing is None, f"{block.place}: `{call.command}` does not print {missing!r} but:\n{printed}"

    def _is_plain(self, call: Call) -> bool:
        return call.command.startswith("netproof ") and not _SHELL.search(call.command)

    def _netproof(self, block: Block, call: Call) -> str:
        self._printed()
        with pytest.raises(SystemExit) as ended:
            main([*shlex.split(call.command)[1:]])
        assert int(ended.value.code or 0) != 2, f"{block.place}: `{call.command}` is refused"
        return self._printed()

    def _bash(self, block: Block) -> None:
        self._shell(block, block.text)

    def _shell(self, block: Block, script: str) -> str:
        left = self._folder / ".environment"
        script = f"set -aeuo pipefail\n{script}\nenv -0 > {shlex.quote(str(left))}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{block.place} ends with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        variables = [entry.partition("=") for entry in left.read_text().split("\0") if entry]
        self._environment = {name: value for name, _, value in variables}
        return done.stdout

    def _python(self, block: Block) -> None:
        exec(compile(block.text, block.place, "exec"), self._names)

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _yaml(self, block: Block) -> None:
        assert yaml.safe_load(block.text) is not None, block.place

    def _toml(self, block: Block) -> None:
        tomllib.loads(block.text)

    def _text(self, block: Block) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: ```{block.language}"
        if block.note.startswith("not"):
            assert block.exempt, f"{block.place}: say why, as in ```bash not run: needs Docker"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what a reader's program leaves open
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OWN_TESTS and blocks(page)], ids=names)
def test_a_page_does_what_it_says(
    page: Path,
    service: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if shutil.which("curl") is None and any("curl " in block.text for block in blocks(page) if block.exempt is None):
        pytest.skip("the page uses curl, which is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    session = Session(tmp_path, service, lambda: capsys.readouterr().out)
    for block in blocks(page):
        if block.exempt is None:
            session.follow(block)
    del session
    gc.collect()


def test_own_tests_exist() -> None:
    for name, test in OWN_TESTS.items():
        assert (ROOT / "docs" / name).is_file()
        assert (ROOT / test).is_file()


def test_what_a_command_prints_is_compared() -> None:
    said = ("robust  in 0.5 s", "  …", "margin ≥ 1.25", "rest …")
    assert differs(said, "robust  in 12.25 s\nmore\nmargin ≥ -3.5e-05\nrest is free") is None
    assert differs(said, "robust  in 0.5 s\nmargin ≥ 2.0\nanother") == "rest …"
    assert differs(said, "unknown  in 0.5 s") == said[0]
    assert differs(("3 robust", "4 not"), "3 robust\nbetween\n4 not") == "4 not"
    assert differs(("3 robust",), "4 robust") == "3 robust"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, *rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert [cells for cells in rows if cells != head] == [], table.splitlines()[0]
