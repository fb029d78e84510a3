"""Questions to parts of a deployment that may hang, each asked in a thread and answered in time.

A part that hangs holds one thread, however often it is asked: whoever asks while an answer is outstanding waits for
that same one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

__all__ = ["Probes"]


class Probes:
    """Asks named questions.

    Args:
        seconds: that an answer may take.
    """

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[float, Future[Any]]] = {}

    def ask(self, questions: dict[str, Callable[[], Any]], *, fresh: float = 0.0) -> dict[str, Future[Any]]:
        """The answers, all together within the time limit; those that are not in time hold a TimeoutError.

        Args:
            questions: by name, the same name for the same question.
            fresh: an answer to a question of so many seconds ago is given again.
        """
        asked = {name: self._begin(name, question, fresh) for name, question in questions.items()}
        deadline = time.monotonic() + self._seconds
        answers = {}
        for name, future in asked.items():
            try:
                future.exception(max(0.0, deadline - time.monotonic()))
                answers[name] = future
            except FutureTimeoutError:
                late: Future[Any] = Future()
                late.set_exception(TimeoutError(f"no answer within {self._seconds:g} s"))
                answers[name] = late
        return answers

    def _begin(self, name: str, question: Callable[[], Any], fresh: float) -> Future[Any]:
        now = time.monotonic()
        with self._lock:
            begun, future = self._asked.get(name, (0.0, None))
            if future is not None and (not future.done() or now - begun < fresh):
                return future
            future = Future()
            self._asked[name] = now, future
        threading.Thread(target=_answer, args=(future, question), name=f"probe {name}", daemon=True).start()
        return future


def _answer(future: Future[Any], question: Callable[[], Any]) -> None:
    try:
        future.set_result(question())
    except BaseException as error:  # noqa: BLE001 - whoever asked gets it
        future.set_exception(error)
