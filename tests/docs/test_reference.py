"""The generated pages are those of the program as it is, and links between pages lead somewhere."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

import netproof
from benchmarks.performance import KEPT, PAGE, read_kept, tables, written
from netproof.python_reference import python_page
from netproof.reference import cli_page, rest_page
from service.verdict_schemas import VerdictDocument
from solver import Outcome, Verdict
from tests.docs.test_blocks import PAGES, ROOT, names

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def test_the_pages_are_the_programs_own() -> None:
    advice = "run make reference"
    assert (ROOT / "docs" / "cli.md").read_text() == cli_page(), advice
    description = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    assert (ROOT / "docs" / "rest.md").read_text() == rest_page(description), advice
    assert (ROOT / "docs" / "python-api.md").read_text() == python_page(), advice


def test_every_public_name_is_described_with_all_its_arguments() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text()
    for name in set(netproof.__all__) - {"__version__"}:
        value = getattr(netproof, name)
        _, found, entry = page.partition(f"\n### netproof.{name}\n")
        assert found, f"{name} is missing in netproof.python_reference"
        if inspect.isfunction(value):
            entry = entry.partition("\n### ")[0]
            assert [each for each in inspect.signature(value).parameters if f"`{each}`" not in entry] == [], name


def test_the_performance_page_has_the_kept_numbers() -> None:
    pairs = read_kept(KEPT)
    assert len(pairs) > 500
    assert written(PAGE.read_text(), tables(pairs)) == PAGE.read_text(), "run make performance"
    with pytest.raises(ValueError, match="0 places for the table 'sets'"):
        written("# A page without marks", tables(pairs))


def test_every_page_of_the_manual_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and page.name not in index
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{names(page)} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{names(page)} links to {target}"


def _anchors(page: Path) -> set[str]:
    """Names of a page's headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_member_of_a_verdict_is_described() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text().partition("## JSON")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert described == set(Verdict(Outcome.UNKNOWN, None, (0.0, 0.0), 0.0).to_json()) | set(
        VerdictDocument.model_fields
    )
