"""Long work in front of a terminal: a progress bar on stderr, and Ctrl-C that keeps what was proven."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from solver import Progress

    Draw = Callable[[Any], None]

__all__ = ["run"]

Result = TypeVar("Result")
Work = Callable[[Callable[[Any], None], Callable[[], bool]], Result]

ABORTED = 130
#: Most queries are decided before a bar would be worth reading.
QUIET_SECONDS = 0.7


def run(
    work: Work[Result],
    seconds: float,
    *,
    bar: contextlib.AbstractContextManager[Draw] | None = None,
    keeping: str = "the bounds so far",
) -> Result:
    """Call ``work(progress, cancel)`` and return what it returns, or raise what it raises.

    The work runs in a thread of its own, so that Ctrl-C is served at once even while native code is at work. The first
    one makes ``cancel()`` true; the second ends the process with exit code 130. For the main thread only.

    Args:
        work: takes a function to report progress to and one that says whether to stop.
        seconds: the time limit, for the bar.
        bar: gives a function that draws what was reported last, or None; by default a bar for `solver.Progress`.
        keeping: what a first Ctrl-C leaves.
    """
    latest: list[Any] = []
    stop = threading.Event()
    done = threading.Event()
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def report(progress: Any) -> None:
        latest[:] = [progress]

    def body() -> None:
        try:
            outcome.append(work(report, stop.is_set))
        except BaseException as error:  # noqa: BLE001  raised again by the caller's thread
            failure.append(error)
        finally:
            done.set()

    # A daemon, so that an abort does not wait for native code to return.
    thread = threading.Thread(target=body, name="netproof", daemon=True)
    with _interrupts(stop, keeping) as listen, bar or _bar(seconds) as draw:
        thread.start()
        while not done.wait(0.1):
            listen()
            draw(latest[-1] if latest else None)
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@contextlib.contextmanager
def _interrupts(stop: threading.Event, keeping: str) -> Iterator[Callable[[], None]]:
    """Serve Ctrl-C meanwhile; the function that is given must be called now and then to go on listening.

    Gurobi puts a handler of its own in the place of Python's when it starts to solve, and keeps the signal to itself.
    """

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os.write(2, b"\naborted\n")
            os._exit(ABORTED)
        stop.set()
        click.echo(f"\ncancelling, with {keeping}; press Ctrl-C again to abort", err=True)

    def listen() -> None:
        signal.signal(signal.SIGINT, on_interrupt)

    before = signal.getsignal(signal.SIGINT)
    listen()
    try:
        yield listen
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _bar(seconds: float) -> Iterator[Callable[[Progress | None], None]]:
    """A function that draws a progress report: on a terminal only, and only once the work has taken a while."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        bar: Any = None
        task: Any = None

        def draw(progress: Progress | None) -> None:
            nonlocal bar, task
            elapsed = time.monotonic() - started
            if bar is None:
                if elapsed < QUIET_SECONDS:
                    return
                bar, task = _new_bar(stack, seconds)
            bar.update(task, completed=min(elapsed, seconds), facts=_facts(progress))

        yield draw


def _new_bar(stack: contextlib.ExitStack, seconds: float) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        BarColumn(bar_width=20),
        TextColumn(f"of {seconds:g} s  {{task.fields[facts]}}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    stack.enter_context(bar)
    return bar, bar.add_task("", total=seconds, facts="")


def _facts(progress: Progress | None) -> str:
    if progress is None:
        return "loading"
    parts = [progress.stage]
    if progress.lower > -math.inf:
        parts.append(f"{progress.measures} ≥ {progress.lower:.4g}")
    if progress.upper < math.inf:
        parts.append(f"≤ {progress.upper:.4g}")
    if progress.open:
        parts.append(f"{progress.open} open")
    if progress.nodes:
        parts.append(f"{progress.nodes:,} nodes")
    return "  ".join(parts)
