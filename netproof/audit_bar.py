"""The progress bar of an audit: verdict counts, the adversarial error so far, and how long it may still take."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netproof.auditing import AuditProgress
    from solver.audit import Outlook

__all__ = ["audit_bar", "facts", "outlook"]


@contextlib.contextmanager
def audit_bar() -> Iterator[Callable[[AuditProgress | None], None]]:
    """A function that draws a report, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task: Any = bar.add_task("", total=None, facts="loading")

        def draw(progress: AuditProgress | None) -> None:
            if progress is not None:
                tally = progress.tally
                bar.update(task, total=tally.total, completed=tally.done, facts=facts(progress))

        yield draw


def facts(progress: AuditProgress) -> str:
    """One report in words."""
    tally = progress.tally
    low, high = tally.adversarial_error
    parts = [
        f"{tally.done}/{tally.total}",
        outlook(progress.outlook),  # early, as a narrow terminal cuts off the end
        f"robust {tally.counts['robust']}",
        f"not {tally.counts['counterexample']}",
        f"unknown {tally.counts['unknown']}",
        f"error {100 * low:.1f}–{100 * high:.1f} %",
    ]
    return "  ".join(parts)


def outlook(left: Outlook) -> str:
    """What is left, and how long it may take."""
    stage = f"{left.searching} open" if not left.sweeping else f"sweep {left.swept}, {left.searching} open"
    estimate = left.seconds_left()
    if estimate is None:
        return stage
    seconds, at_most = estimate
    return f"{stage}  {'at most' if at_most else 'about'} {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
