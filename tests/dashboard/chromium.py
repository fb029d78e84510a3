"""A headless Chromium that reaches one site only, and keeps a record of what pages tried and complained about.

``python -m tests.dashboard.chromium`` says which browser the dashboard's tests use; status 1: there is none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Route, sync_playwright

__all__ = ["Watch", "browser_path", "driven", "launched", "watched"]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def browser_path(playwright: Playwright) -> str | None:
    """The browser to use: ``NETPROOF_BROWSER``, one of the system's, or the one that Playwright installed."""
    own = playwright.chromium.executable_path
    wanted = os.environ.get("NETPROOF_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    return wanted or (own if Path(own).exists() else None)


def driven() -> bool:
    """Whether Playwright's own Node.js starts; on a bare Debian it lacks libatomic1."""
    command = [sys.executable, "-m", "playwright", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def launched() -> Iterator[Browser | None]:
    """A running browser, or None where there is none, or nothing to drive it."""
    if not driven():
        yield None
        return
    with sync_playwright() as playwright:
        path = browser_path(playwright)
        if path is None:
            yield None
            return
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watch:
    """What the pages of one browser context did that they should not do."""

    site: str
    foreign: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def expect(self, *words: str) -> None:
        """Forget the complaints that hold one of ``words``; each of the words must have come."""
        for word in words:
            assert any(word in complaint for complaint in self.complaints), (word, self.complaints)
        self.complaints = [each for each in self.complaints if not any(word in each for word in words)]

    def check(self) -> None:
        """Fail if a page asked for anything beyond the site, or logged an error."""
        assert self.foreign == []
        assert self.complaints == []


def watched(browser: Browser, site: str, **options: Any) -> tuple[BrowserContext, Watch]:
    """A context of ``browser`` from which nothing but ``site`` can be reached."""
    context = browser.new_context(base_url=site, **options)
    context.set_default_timeout(30_000)
    watch = Watch(site)

    def on_request(route: Route) -> None:
        url = route.request.url
        if url.startswith((site + "/", "data:", "blob:")):
            watch.requests.append(url)
            route.continue_()
        else:
            watch.foreign.append(url)
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            watch.complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def on_page(page: Page) -> None:
        page.on("console", on_console)
        page.on("pageerror", lambda error: watch.complaints.append(str(error)))

    context.route("**/*", on_request)
    context.on("page", on_page)
    return context, watch


def main() -> int:
    """Say which browser there is."""
    path, why = None, "none"
    if driven():
        with sync_playwright() as playwright:
            path = browser_path(playwright)
    else:
        why = "Playwright's driver does not start (Debian: apt-get install libatomic1)"
    if "--quiet" not in sys.argv:
        print(f"browser of the dashboard's tests: {path or f'{why}, so they are skipped'}")
    return 0 if path else 1


if __name__ == "__main__":
    sys.exit(main())
