"""Upload broken networks, data sets and certificates to a service, and see that nothing happens but answers.

``python -m benchmarks.fuzz_uploads --files 10000`` starts a service of its own and sends mutated files
(`benchmarks.hostile_uploads`) to ``POST /v1/networks``, every tenth of them as a part of a form to ``POST /v1/verify``;
besides, a tenth as many data sets and a twentieth as many certificates. It fails where an answer is a 5xx or an error
without a problem document, where one takes longer than the service's limits allow, where the web process ends, where
the service's memory grows beyond a bound, or where an upload leaves a process or a file behind.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path

import httpx
import psutil

import netproof
from benchmarks.hostile_uploads import Upload, certificates, datasets, networks
from benchmarks.places import ROOT, data_folder
from netproof.local import local_service

__all__ = ["Findings", "main", "real_certificates", "real_datasets", "real_networks", "send"]

_PROBLEM = "application/problem+json"
#: What a pickled object in a data set would make, if anything ever ran it.
_TRACE = Path("/tmp/netproof-was-here")
_LARGEST_REAL = 2**18
#: Of two inputs, in IDX; and a property that few networks fit, but whose form is right.
_LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
_VNNLIB = b"".join(
    (
        *(b"(declare-const X_%d Real)(assert (<= X_%d 0.5))(assert (>= X_%d 0.4))" % (i, i, i) for i in range(64)),
        *(b"(declare-const Y_%d Real)" % i for i in range(10)),
        b"(assert (>= Y_0 1000000))",
    )
)


@dataclass
class Findings:
    """What came of the uploads."""

    statuses: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    kinds: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest: tuple[float, str] = (0.0, "")
    faults: list[str] = field(default_factory=list)

    def take(self, path: str, upload: Upload, number: int, answer: httpx.Response, seconds: float) -> None:
        """Judge one answer."""
        self.statuses[path, answer.status_code] += 1
        self.kinds[upload.kind] += 1
        self.slowest = max(self.slowest, (seconds, f"{path} {upload.kind} (number {number})"))
        media = answer.headers.get("Content-Type", "")
        if answer.status_code >= 500 or (answer.is_error and media != _PROBLEM):
            self.faults.append(f"{path} {upload.kind} (number {number}): {answer.status_code} {answer.text[:300]}")


def real_networks() -> list[bytes]:
    """The example networks, and small ones of the data folder where there is one."""
    paths = sorted((ROOT / "examples").glob("*.onnx"))
    if data_folder().is_dir():
        paths += [path for path in sorted(data_folder().rglob("*.onnx")) if path.stat().st_size < _LARGEST_REAL][::4]
    return [path.read_bytes() for path in paths]


def real_datasets() -> list[bytes]:
    """The digits as they are; and small arrays, an IDX file and CSV, which hold two inputs each."""
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(range(8))
    table = b"label,a,b,c\n" + b"".join(b"%d,0.%d,1e-3,%d\n" % (i % 3, i, i) for i in range(40))
    return [(ROOT / "examples" / "digits.npz").read_bytes(), idx, table]


def real_certificates() -> list[bytes]:
    """A proof about the example network."""
    examples = ROOT / "examples"
    verdict = netproof.verify(examples / "digits_robust.onnx", vnnlib=examples / "digits.vnnlib", certificate=True)
    assert verdict.certificate is not None, verdict
    return [verdict.certificate]


async def send(
    url: str, path: str, uploads: Iterator[Upload], findings: Findings, *, at_once: int = 4, seconds: float = 90.0
) -> None:
    """Send ``uploads``, a few at a time, each of which must be answered within ``seconds``."""
    numbered = enumerate(uploads)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=url, timeout=seconds, limits=limits) as client:

        async def sender() -> None:
            for number, upload in numbered:
                begun = time.monotonic()
                try:
                    answer = await _post(client, path, upload, number)
                    asked = answer.request.url.path
                except httpx.TransportError as error:
                    findings.faults.append(f"{path} {upload.kind} (number {number}): no answer, {error!r}")
                    continue
                findings.take(asked, upload, number, answer, time.monotonic() - begun)

        await asyncio.gather(*(sender() for _ in range(at_once)))


async def _post(client: httpx.AsyncClient, path: str, upload: Upload, number: int) -> httpx.Response:
    if path == "/v1/datasets" and number % 3 == 0:
        files = {"images": ("x", upload.content), "labels": ("y", _LABELS)}
        return await client.post(path, files=files)
    if path == "/v1/networks" and number % 10 == 9:
        name = f"../../{number}\x00.onnx"
        files = {"network": (name, upload.content), "vnnlib": ("p.vnnlib", _VNNLIB)}
        return await client.post("/v1/verify", files=files, data={"time_limit": "1"})
    return await client.post(path, content=upload.content, headers={"Content-Type": "application/octet-stream"})


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="networks to send")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="send no more of a kind after that long")
    parser.add_argument(
        "--most-mb", type=float, default=1500.0, help="bound on the resident memory of a web process and its readers"
    )
    parser.add_argument("--keep", type=Path, help="folder for the service's data and log")
    options = parser.parse_args(arguments)
    findings = Findings()
    _TRACE.unlink(missing_ok=True)
    with local_service(workers=1, folder=options.keep, start_seconds=300) as url:
        webs = _web_processes()
        watched = _Watched(webs)
        real = real_networks()
        proven = (ROOT / "examples" / "digits_robust.onnx").read_bytes()
        model = httpx.post(f"{url}/v1/networks", content=proven, timeout=120).json()["sha256"]
        begun, spent = time.monotonic(), sum(map(_cpu_seconds, webs))
        for path, uploads, count in (
            ("/v1/networks", networks(options.seed, real), options.files),
            ("/v1/datasets", datasets(options.seed, real_datasets()), options.files // 10),
            (f"/v1/check?network={model}", certificates(options.seed, real_certificates()), options.files // 20),
        ):
            asyncio.run(_watch(watched, send(url, path, _some(uploads, count, options.seconds), findings)))
            answers = sum(findings.statuses.values())
            print(f"{path.partition('?')[0]}: {answers} answers and {len(findings.faults)} faults so far", flush=True)
        seconds, cpu = time.monotonic() - begun, sum(map(_cpu_seconds, webs)) - spent
        healthy = httpx.get(f"{url}/healthz", timeout=120).is_success
    return _report(findings, watched, seconds, cpu, healthy=healthy, most_mb=options.most_mb * len(webs))


def _some(uploads: Iterator[Upload], count: int, seconds: float) -> Iterator[Upload]:
    end = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < end, islice(uploads, count))


@dataclass
class _Watched:
    """The web processes, and the most memory that one of them, and all with their readers, have taken."""

    webs: list[psutil.Process]
    peak: float = 0.0
    web_peak: float = 0.0

    def look(self) -> None:
        """Note what they take now."""
        own = [_megabytes(web) for web in self.webs]
        readers = [_megabytes(child) for web in self.webs for child in web.children(recursive=True)]
        self.web_peak = max(self.web_peak, *own)
        self.peak = max(self.peak, sum(own) + sum(readers))


async def _watch(watched: _Watched, work: object) -> None:
    sending = asyncio.ensure_future(work)  # type: ignore[call-overload]
    while not sending.done():
        watched.look()
        await asyncio.wait([sending], timeout=0.2)
    sending.result()


def _megabytes(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return 0.0


def _web_processes() -> list[psutil.Process]:
    """The web processes of the only service that this process has started."""
    return [each for each in psutil.Process().children(recursive=True) if "service.web" in each.cmdline()]


def _cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of the process, its children, and those of theirs that have ended."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _report(findings: Findings, watched: _Watched, seconds: float, cpu: float, *, healthy: bool, most_mb: float) -> int:
    total = sum(findings.statuses.values())
    for (path, status), count in sorted(findings.statuses.items()):
        print(f"{path:14} {status}  {count}")
    each = 1e3 * cpu / max(1, total)
    print(f"{total} uploads in {seconds:.0f} s; web and readers took {cpu:.0f} CPU s, {each:.1f} ms for each")
    print(f"slowest {findings.slowest[0]:.1f} s: {findings.slowest[1]}")
    print(f"peak memory {watched.web_peak:.0f} MB of a web process, {watched.peak:.0f} MB with its readers")
    found: Sequence[str] = [
        *findings.faults,
        *([] if healthy else ["the service does not answer any more"]),
        *([] if watched.peak <= most_mb else [f"{watched.peak:.0f} MB are more than {most_mb:g}"]),
        *([f"{_TRACE} is there: a pickled object was run"] if _TRACE.exists() else []),
    ]
    print(f"{len(found)} faults")
    for fault in found[:50]:
        print(" ", fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
