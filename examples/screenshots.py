"""Take pictures of the dashboard, from a service with something to show.

    python -m examples.screenshots [--out screenshots] [--readme]

The service runs with a temporary data directory and one worker, which is held while a batch is at 0 % and at about
50 %. Every page is taken for a desktop and a phone, light and dark. ``--readme`` takes only the pictures of the README.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Browser, Page

from netproof.local import local_service
from tests.dashboard.chromium import launched

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
#: So many colours keep letters smooth and the drawings' colours apart; a picture is half as large with them.
COLOURS = 256


class Camera:
    """Takes each page in every size and both themes."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self._browser = browser
        self._url = url
        self._folder = folder

    def take(self, name: str, path: str, *, press: str = "") -> None:
        """Save ``<name>-<size>-<theme>.png`` of the whole page, after a button was pressed, if one is named."""
        for size, viewport in SIZES.items():
            for theme in ("light", "dark"):
                with self._page(viewport, theme) as page:
                    page.goto(path)
                    _await_pictures(page)
                    if press:
                        page.get_by_role("button", name=press).click()
                    save(page.screenshot(full_page=True), self._folder / f"{name}-{size}-{theme}.png")

    def readme(self, name: str, path: str, *, part: str | None = None, width: int = 1180, height: int = 840) -> None:
        """Save a picture of the top of a page, or of the ``part`` that a selector finds."""
        with self._page({"width": width, "height": height}, "light") as page:
            page.goto(path)
            _await_pictures(page)
            shown = page.screenshot() if part is None else page.locator(part).first.screenshot()
            save(shown, self._folder / f"{name}.png")

    @contextmanager
    def _page(self, viewport: dict[str, int], theme: str) -> Iterator[Page]:
        context = self._browser.new_context(
            base_url=self._url, viewport=viewport, color_scheme=theme, reduced_motion="reduce"
        )
        yield context.new_page()
        context.close()


def _await_pictures(page: Page) -> None:
    """Has those loaded, too, that nobody has scrolled to."""
    page.evaluate("for (const image of document.images) image.loading = 'eager'")
    page.evaluate("Promise.allSettled([...document.images].map(image => image.decode()))")


def save(content: bytes, path: Path) -> None:
    """Write a picture in few colours."""
    shot = Image.open(io.BytesIO(content)).convert("RGB")
    # spread over all colours that there are: the keys of a legend are few pixels, and must not share one
    few = shot.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    click.echo(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")


class Service:
    """What the pictures need done, over HTTP."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        octets = {"Content-Type": "application/octet-stream"}

        def upload(kind: str, name: str) -> str:
            content = (HERE / name).read_bytes()
            answer = self.http.post(f"/v1/{kind}", params={"name": name}, content=content, headers=octets)
            return str(answer.raise_for_status().json()["sha256"])

        self.plain, self.robust = upload("networks", "digits_plain.onnx"), upload("networks", "digits_robust.onnx")
        self.digits = upload("datasets", "digits.npz")
        with np.load(HERE / "digits.npz") as file:
            self.images, self.labels = file["images"], file["labels"]

    def ask(self, network: str, index: int, epsilon: str, *, kind: str = "decide", **members: Any) -> str:
        """The path of the page of a job that has ended."""
        query = {
            "kind": kind,
            "input": self.images[index].ravel().astype(float).tolist(),
            "label": int(self.labels[index]),
            "epsilon": epsilon,
            "domain": [0, 1],
        }
        request = {"network": network, "query": query, "time_limit": 20, **members}
        answer = self.http.post("/v1/verify?wait=60", json=request).raise_for_status().json()
        return f"/jobs/{answer['id']}"

    def audit(self) -> str:
        """The path of the page of a new batch."""
        request = {
            "network": self.plain,
            "dataset": self.digits,
            "name": "Plain digits, 300 test images",
            "query": {"epsilon": ["0.01", "0.02", "0.04", "0.06"], "domain": [0, 1]},
            "selection": {"end": 300},
            "time_limit": 10,
        }
        return f"/batches/{self.http.post('/v1/batches', json=request).raise_for_status().json()['id']}"

    def item(self, batch: str, verdict: str) -> str:
        """The path of the page of an item that ended so."""
        found = self.http.get(f"/v1{batch}/items", params={"verdict": verdict, "epsilon": "0.04"}).json()["items"]
        return f"{batch}/items/{found[0]['number']}"

    def wait(self, batch: str, enough: Callable[[float], bool]) -> None:
        """Until the share of the batch that is decided is ``enough``."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            found = self.http.get(f"/v1{batch}").json()
            if enough((found["counts"]["done"] + found["counts"]["failed"]) / found["items"]):
                return
            time.sleep(0.02)
        msg = f"{batch} does not get on"
        raise TimeoutError(msg)

    @contextmanager
    def held(self) -> Iterator[None]:
        """No worker does anything meanwhile."""
        workers = [psutil.Process(each["pid"]) for each in self.http.get("/v1/workers").json()["workers"]]
        processes = [process for worker in workers for process in (worker, *worker.children(recursive=True))]
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        yield
        for process in processes:
            if process.is_running():
                os.kill(process.pid, signal.SIGCONT)


def everything(camera: Camera, service: Service) -> None:
    """All pages in all states."""
    with service.held():
        batch = service.audit()
        camera.take("batch-0", batch)
    service.wait(batch, lambda share: share >= 0.4)
    with service.held():
        camera.take("batch-50", batch)
    camera.take("overview-busy", "/")
    camera.take("job-robust", service.ask(service.robust, 10, "0.1", certificate=True))
    camera.take("job-counterexample", service.ask(service.plain, 10, "0.1"))
    camera.take("job-unknown", service.ask(service.plain, 10, "0.07", engine="bounds"))
    camera.take("job-margin", service.ask(service.robust, 5, "0.02", kind="margin"))
    service.wait(batch, lambda share: share == 1)
    camera.take("batch-100", batch)
    camera.take("overview", "/")
    for name in ("networks", "datasets", "jobs", "batches", "audit"):
        camera.take(name, f"/{name}")
    camera.take("network", f"/networks/{service.robust}")
    camera.take("dataset", f"/datasets/{service.digits}")
    for verdict in ("robust", "counterexample"):
        camera.take(f"item-{verdict}", service.item(batch, verdict))
    asked = f"/ask?network={service.robust}&dataset={service.digits}&index=10&epsilon=0.05"
    camera.take("ask", asked)
    camera.take("ask-command", asked, press="Show the command")


def for_readme(camera: Camera, service: Service) -> None:
    """A batch that has closed, and an adversarial pair."""
    pair = service.ask(service.plain, 10, "0.1")
    camera.readme("adversarial-pair", pair, part=".pictures", width=1180)
    batch = service.audit()
    service.wait(batch, lambda share: share == 1)
    camera.readme("dashboard", batch)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("screenshots"), help="Folder of the pictures.")
@click.option("--readme", is_flag=True, help="Only those of the README, into docs/pictures.")
def main(out: Path, readme: bool) -> None:
    """Take pictures of the dashboard."""
    folder = PICTURES if readme else out
    folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser, tempfile.TemporaryDirectory() as data:
        if browser is None:
            sys.exit("no Chromium is installed: run `make browser`")
        with local_service(workers=1, folder=Path(data)) as url:
            camera = Camera(browser, url, folder)
            if readme:
                for_readme(camera, Service(url))
                return
            camera.take("empty", "/")
            everything(camera, Service(url))


if __name__ == "__main__":
    main()
