"""Calls that come at the same time, answered together.

A web process asks the ledger the same few things for many clients. One by one, each question costs a hop to a thread, a
connection from the pool and a statement or a transaction of its own; together they share these. Nobody waits for
company: while one group is being answered, the next one gathers, so a lone call goes at once and groups grow with load.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

__all__ = ["Gathering"]

Q = TypeVar("Q")
A = TypeVar("A")


class Gathering(Generic[Q, A]):
    """Answers questions in groups, in a thread.

    Args:
        answer: gives for each question of a group its answer, or the exception that asking it raises; what it raises
            itself is raised for all of them.
        most: questions of one group.
        groups: groups that may be answered at the same time.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Sequence[A | Exception]], *, most: int = 100, groups: int = 1
    ) -> None:
        self._answer = answer
        self._most = most
        self._free = groups
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """The answer to one question. A caller who goes away takes nothing back that a group has begun."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._free:
            self._free -= 1
            # in no context: what it does is for many requests, and no log line of it is the first one's
            task = asyncio.create_task(self._work(), context=contextvars.Context())
            self._tasks.add(task)  # the loop itself keeps no reference
            task.add_done_callback(self._tasks.discard)
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._settle(group)
        finally:
            self._free += 1

    async def _settle(self, group: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await run_in_threadpool(self._answer, [question for question, _ in group])
        except Exception as error:  # noqa: BLE001 - it is raised where the questions were asked
            answers = [error] * len(group)
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue  # its caller went away
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
