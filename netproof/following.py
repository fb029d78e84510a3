"""Following server-sent events until something ends, over connections that may break; without the sending."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from netproof.answers import BUSY, AnswerError, Document
from netproof.asking import Patience
from netproof.job import Event, EventParser

__all__ = ["Following"]


@dataclass
class Following:
    """One stream of events, resumed behind the last event that came.

    Args:
        path: of the stream.
        ended: whether a ``state`` event's data are the last.
        after: id of the last event that is known already.
        seconds: at most that long; None: until the end.
        patience: how often a connection may fail in a row.
    """

    path: str
    ended: Callable[[Document], bool]
    after: str | None
    seconds: float | None
    patience: Patience
    finished: bool = False
    _failures: int = 0
    _parser: EventParser = field(default_factory=EventParser)

    def __post_init__(self) -> None:
        self._deadline = math.inf if self.seconds is None else time.monotonic() + self.seconds

    @property
    def over(self) -> bool:
        """Whether nothing more is wanted."""
        return self.finished or time.monotonic() >= self._deadline

    def headers(self) -> dict[str, str]:
        """Of the next request; what was read of an event that broke off is forgotten."""
        self._parser = EventParser()
        return {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.after} if self.after else {})

    def timeout(self, seconds: float) -> httpx.Timeout:
        return httpx.Timeout(seconds, read=max(0.001, min(seconds, self._deadline - time.monotonic())))

    def take(self, line: str) -> Event | None:
        """The event that ``line`` completes."""
        event = self._parser.feed(line)
        if event is not None:
            self.after, self._failures = event.id or self.after, 0
            self.finished = event.name == "state" and self.ended(event.data)
        return event

    def broke(self, error: httpx.TransportError | AnswerError, url: httpx.URL) -> None:
        """Note that a connection broke. Raises what cannot be mended by another."""
        if isinstance(error, AnswerError) and error.status not in BUSY:
            raise error
        if not self.over:
            self.patience.after_error(error, self._failures, url)
            self._failures += 1

    def pause(self) -> float:
        """Seconds until the next connection: a stream that ends too early was cut off by a restart or a proxy."""
        return max(0.0, min(self.patience.pause(self._failures), self._deadline - time.monotonic()))
