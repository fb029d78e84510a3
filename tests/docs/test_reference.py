"""The generated pages are those of the program as it is, and links between pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from netproof.reference import cli_page, rest_page
from tests.docs.test_blocks import PAGES, ROOT, names

_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def test_the_pages_are_the_programs_own() -> None:
    advice = "run make reference"
    assert (ROOT / "docs" / "cli.md").read_text() == cli_page(), advice
    description = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    assert (ROOT / "docs" / "rest.md").read_text() == rest_page(description), advice


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
