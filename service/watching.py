"""How long something has stayed as it is, by a clock that nobody sets.

Times in the ledger are wall clock times of several machines: they may disagree, jump ahead, or be set back. Whether a
worker still renews its lease must not depend on them, so a lease's end is only looked at as a value that changes, and
the time during which it did not change is taken here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

__all__ = ["Watch"]

_Key = TypeVar("_Key", bound=Hashable)


class Watch(Generic[_Key]):
    """Remembers values and since when they have been what they are.

    Args:
        clock: seconds of a steady clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[_Key, tuple[object, float]] = {}

    def unchanged(self, values: Mapping[_Key, object]) -> dict[_Key, float]:
        """For how many seconds each value has been seen as it is now; keys that are gone are forgotten."""
        now = self._clock()
        fresh = (None, now)
        self._seen = {
            key: seen if (seen := self._seen.get(key, fresh))[0] == value else (value, now)
            for key, value in values.items()
        }
        return {key: now - since for key, (_, since) in self._seen.items()}

    def forget(self) -> None:
        """Begin anew: what was seen says nothing about what happened since."""
        self._seen.clear()
