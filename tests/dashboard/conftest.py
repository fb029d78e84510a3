"""A service with a worker, and a browser that reaches nothing else.

`visit` opens pages; when a test ends, it fails if any page asked for something beyond the service, or logged an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.conftest import NO_BROWSER
from tests.dashboard.chromium import Watch, launched, watched
from tests.service.serving import Service

#: A worker begins within seconds of a cold start, and CI machines are slow.
expect.set_options(timeout=20_000)

DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker."""
    service = Service(tmp_path_factory.mktemp("site"))
    service.ready_worker()
    yield service
    service.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one, what needs it is skipped."""
    with launched() as found:
        if found is None:
            pytest.skip(NO_BROWSER)
        yield found


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """Opens a page of a service in a context of its own; options are those of Playwright's ``new_context``."""
    opened = []

    def opener(service: Service, path: str = "/", **options: Any) -> tuple[Page, Watch]:
        context, watch = watched(browser, service.url, **({"viewport": DESKTOP} | options))
        opened.append((context, watch))
        page = context.new_page()
        page.goto(path)
        return page, watch

    yield opener
    for context, watch in opened:
        context.close()
        watch.check()


@pytest.fixture
def visit(open_page: Callable[..., tuple[Page, Watch]], site: Service) -> Callable[..., Page]:
    """Opens a page of `site`."""
    return lambda path="/", **options: open_page(site, path, **options)[0]


@pytest.fixture(scope="package")
def accessible() -> Callable[[Page], None]:
    """Fails on every serious accessibility problem that axe-core finds on a page."""
    axe = Axe()

    def check(page: Page) -> None:
        found = axe.run(page).response["violations"]
        serious = [
            f"{each['impact']}: {each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
            for each in found
            if each["impact"] in {"serious", "critical", "moderate"}
        ]
        assert serious == [], page.url

    return check
