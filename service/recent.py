"""What a process has come to know lately, so that it need not find it out again at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that forgets: what is older than ``seconds``, and what was used least recently when it weighs too much.

    It belongs to one event loop, and takes no lock.

    Args:
        seconds: how long an entry is good for.
        weight: of all entries together, in the unit that `put` is told.
        clock: for tests.
    """

    def __init__(self, seconds: float, weight: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = self._room = weight
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is known under ``key``, None if nothing is any more."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, weight, until = entry
        if until < self._clock():
            del self._entries[key]
            self._room += weight
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V, weight: float = 1) -> None:
        """Know ``value`` from now on, unless it weighs more than there is room for at all."""
        before = self._entries.pop(key, None)
        self._room += before[1] if before else 0
        if weight > self._most:
            return
        now = self._clock()
        self._entries[key] = value, weight, now + self._seconds
        self._room -= weight
        while self._room < 0 or next(iter(self._entries.values()))[2] < now:
            _, (_, lost, _) = self._entries.popitem(last=False)
            self._room += lost

    def forget(self, key: K) -> None:
        """Know nothing under ``key`` any more."""
        before = self._entries.pop(key, None)
        self._room += before[1] if before else 0

    def __len__(self) -> int:
        return len(self._entries)
