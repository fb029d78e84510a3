"""What is going on where a line is logged or a job is made: the request, its trace, the job and the attempt.

Names are bound for a block of code, and follow into coroutines and into threads of the event loop's pool; other threads
are started in a copy of the context. Nobody has to hand them on.

A trace is that of W3C Trace Context: ``traceparent`` is ``00-<trace>-<span>-<flags>`` in hexadecimal digits.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

__all__ = ["at_work", "bound", "current", "origin", "trace_of", "traceparent"]

#: What of the context a job keeps.
_ORIGIN = ("request", "traceparent")

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_bound: ContextVar[Mapping[str, str]] = ContextVar("netproof", default=MappingProxyType({}))


@contextlib.contextmanager
def bound(**names: object) -> Iterator[None]:
    """Bind names to what their values are as text, beside those that are bound already; None binds nothing."""
    added = {name: str(value) for name, value in names.items() if value is not None}
    token = _bound.set({**_bound.get(), **added})
    try:
        yield
    finally:
        _bound.reset(token)


def current() -> dict[str, str]:
    """All names that are bound here; ``traceparent`` is told by its ``trace``."""
    names = dict(_bound.get())
    parent = names.pop("traceparent", None)
    return names if parent is None else {"trace": trace_of(parent), **names}


def origin() -> dict[str, str] | None:
    """Which request and trace a job that is made here belongs to, for the ledger to keep; None: nobody's."""
    names = _bound.get()
    found = {name: names[name] for name in _ORIGIN if name in names}
    return found or None


def at_work(job: str, attempt: int, made: Mapping[str, str] | None) -> contextlib.AbstractContextManager[None]:
    """Bind a job's attempt, and what `origin` said where the job was made."""
    return bound(job=job, attempt=attempt, **{name: (made or {}).get(name) for name in _ORIGIN})


def traceparent(given: str | None) -> str:
    """A request's traceparent header, or one that begins a trace where there is none, or none that is valid."""
    if given is not None and _TRACEPARENT.fullmatch(given):
        return given
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_of(parent: str) -> str:
    """The trace's identifier."""
    return parent.split("-")[1]
