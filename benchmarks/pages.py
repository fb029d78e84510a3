"""The page of a large batch in a real browser: how soon is it there, and does it stay quick?

    python -m benchmarks.pages [--items 10000] [--visits 5]

A service of its own decides the digits example at as many radii as make up the items. Then headless Chromium opens the
page of the batch, scrolls to the end of its table several times, and narrows it to one verdict. Times are the browser's
own (``performance`` entries), and those from an action until its rows stand in the table. The exit code says whether
the median first paint is as soon as the dashboard promises.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

from benchmarks.places import ROOT
from netproof import Client
from netproof.local import local_service
from networks import Dataset
from tests.dashboard.chromium import launched

__all__ = ["main"]

#: What the dashboard promises of a batch of 10,000 items on two cores.
_FIRST_PAINT = 500.0
#: So often the table is scrolled to its end.
_PAGES_READ = 5

_NAVIGATION = """() => [
  performance.getEntriesByType('navigation')[0].responseStart,
  performance.getEntriesByName('first-contentful-paint')[0].startTime,
]"""
_LAST = "() => Math.max(...performance.getEntriesByType('resource').map(each => each.responseEnd))"
_NARROWED = """() => [...document.querySelectorAll('#rows tr .badge')].every(
  badge => badge.textContent.trim() == 'counterexample'
)"""


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 where the median first paint takes longer than promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--visits", type=int, default=5)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="netproof-") as folder,
        local_service(workers=2, folder=Path(folder)) as url,
    ):
        batch = _decided(url, options.items)
        with launched() as browser:
            if browser is None:
                parser.error(
                    "no Chromium is installed: run `make browser`, or set NETPROOF_BROWSER to a browser's path"
                )
            measured = []
            for _ in range(options.visits + 1):  # the first one warms up the service
                context = browser.new_context()
                measured.append(_visit(context.new_page(), f"{url}/batches/{batch}"))
                context.close()
    table = Table("milliseconds", "median", "best", "worst")
    for name in measured[0]:
        values = [visit[name] for visit in measured[1:]]
        table.add_row(name, *(f"{value:.0f}" for value in (statistics.median(values), min(values), max(values))))
    Console().print(table)
    return int(statistics.median(visit["first paint"] for visit in measured[1:]) > _FIRST_PAINT)


def _decided(url: str, items: int) -> str:
    """A batch of at least so many items, each decided."""
    examples = ROOT / "examples"
    inputs = len(Dataset.read(examples / "digits.npz"))
    radii = [f"{1 + i}/1000" for i in range(-(-items // inputs))]
    begin = time.monotonic()
    with Client(url) as client:
        data = examples / "digits.npz"
        batch = client.batches.submit(examples / "digits_plain.onnx", data, epsilon=radii, domain=(0, 1))
        batch = client.batches.wait(batch.id)
    print(f"{inputs * len(radii):,} items decided in {time.monotonic() - begin:.0f} s by two workers")
    return batch.id


def _visit(page: Page, address: str) -> dict[str, float]:
    """One visit's times in milliseconds."""
    page.goto(address)
    page.wait_for_load_state("networkidle")
    first_byte, first_paint = page.evaluate(_NAVIGATION)
    times = {"first byte": first_byte, "first paint": first_paint, "everything drawn": page.evaluate(_LAST)}
    begin = time.monotonic()
    for _ in range(_PAGES_READ):
        rows = page.locator("#rows tr").count()
        page.locator("#rows tr").last.scroll_into_view_if_needed()
        page.wait_for_function("rows => document.querySelectorAll('#rows tr').length > rows", arg=rows, polling=5)
    times["reading on, page by page"] = 1e3 * (time.monotonic() - begin) / _PAGES_READ
    begin = time.monotonic()
    page.get_by_label("Status").select_option("counterexample")
    page.wait_for_function(_NARROWED, polling=5)
    times["narrowed to counterexamples"] = 1e3 * (time.monotonic() - begin)
    return times


if __name__ == "__main__":
    raise SystemExit(main())
