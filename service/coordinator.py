"""One hard query on many workers: a job that hands subtrees to idle workers and takes their answers back in.

The job's own process searches on (`solver.helpers`); this is what it gives pieces to. A piece is a part of the job
(`service.subtrees`) on a queue that workers look into last, searched for some seconds at most. Nothing here waits: what
no worker takes comes back as soon as the search runs dry, and where other questions wait, parts are called back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy.exc import SQLAlchemyError

from service.artifacts import Artifacts
from service.errors import NotFoundError, StorageError
from service.keeping import Keeper
from service.lease import Lease
from service.ledger import Ledger
from service.models import JobRecord
from service.queue import Dispatcher, Priority, queue_name
from service.settings import Settings
from service.states import TERMINAL, JobState
from solver.options import Backend
from solver.parcel import digest
from solver.verdict import Outcome, Reason, Verdict

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["Coordinator", "search_part"]

logger = logging.getLogger(__name__)

#: Where parts wait: every worker serves it, after everything else.
_QUEUE = queue_name(Backend.HIGHS, Priority.LOW)
#: Cells that a part has at least.
_LEAST = 16
#: Seconds between two looks at parts, and at the workers.
_LOOK_SECONDS = 0.5
#: A part that has run for less is not called back, unless others wait: it has hardly begun.
_RECALL_SECONDS = 2.0
#: A part may take this much longer than it was given, for loading its network and writing its answer.
_SLACK_SECONDS = 30.0
#: Members of a query that may hold megabytes; parts do not ask it again.
_LONG = ("input", "inputs", "vnnlib")


@dataclass(slots=True)
class _Part:
    id: str
    given: float
    state: JobState = JobState.QUEUED
    begun: float = 0.0
    recalled: bool = False


class Coordinator:
    """The helpers of one running job, see `solver.helpers.Helpers`."""

    def __init__(
        self,
        job: JobRecord,
        network: Network,
        ledger: Ledger,
        dispatcher: Dispatcher,
        artifacts: Artifacts,
        settings: Settings,
    ) -> None:
        """``network`` is what the searches are about: the job's, or one that was built for its question."""
        self.least = _LEAST
        self.seconds = settings.share_seconds
        self.delay = settings.share_worth
        self._job, self._network = job, network
        self._ledger, self._dispatcher, self._artifacts = ledger, dispatcher, artifacts
        self._settings = settings
        self._since: float | None = None
        self._looked = 0.0
        self._free = 0
        self._stored: set[str] = set()
        self._parts: dict[str, _Part] = {}
        self._done: dict[str, bytes | None] = {}

    def wanted(self) -> int:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since < self._settings.share_after or not self._settings.share_workers:
            return 0
        self._look()
        return self._free

    def busy(self) -> int:
        return sum(part.state is not JobState.QUEUED for part in self._parts.values())

    def cores(self) -> int:
        return 0  # each is a worker with cores of its own

    def give(self, problem: bytes, piece: bytes) -> bool:
        try:
            part = {"problem": self._store(problem), "piece": self._store(piece), "seconds": self.seconds}
            if self._network.sha256 != self._job.network:
                part["network"] = self._store(self._network.model)
            query = {name: value for name, value in self._job.request["query"].items() if name not in _LONG}
            limit = self.seconds + _SLACK_SECONDS
            request = {**self._job.request, "query": query, "time_limit": limit, "part": part}
            made = self._ledger.subtrees.give(self._job, request, queue=_QUEUE, time_limit=limit)
        except (StorageError, SQLAlchemyError) as error:
            logger.warning("job %s: a part could not be given away: %s", self._job.id, error)
            made = None
        if made is None:
            self._free = 0
            return False
        self._free -= 1
        self._parts[digest(piece)] = _Part(made.id, time.monotonic())
        try:
            self._dispatcher.enqueue(made)
        except redis.RedisError as error:
            logger.warning("job %s: part %s is in no queue yet: %s", self._job.id, made.id, error)
        return True

    def take(self, pieces: Collection[str], seconds: float) -> dict[str, bytes | None]:
        self._look()
        if seconds and not self._done.keys() & set(pieces):
            time.sleep(seconds)
            self._look()
        return {piece: self._done.pop(piece) for piece in pieces if piece in self._done}

    def recall(self, pieces: Collection[str], count: int) -> None:
        now = time.monotonic()
        mine = [part for name in pieces if (part := self._parts.get(name)) is not None and not part.recalled]
        unbegun = [part for part in mine if part.state is JobState.QUEUED]
        running = [part for part in mine if part.begun and now - part.begun > _RECALL_SECONDS]
        self._ask_back([*unbegun, *sorted(running, key=lambda part: part.begun)[:count]])

    def drop(self, pieces: Collection[str]) -> None:
        self._ask_back([self._parts[name] for name in pieces if name in self._parts])
        for name in pieces:
            self._parts.pop(name, None)
            self._done.pop(name, None)

    def _store(self, data: bytes) -> str:
        name = digest(data)
        if name not in self._stored:
            self._artifacts.put(data)
            self._stored.add(name)
        return name

    def _ask_back(self, parts: Collection[_Part]) -> None:
        if not parts:
            return
        try:
            self._ledger.subtrees.recall([part.id for part in parts])
        except SQLAlchemyError as error:
            logger.warning("job %s: parts could not be called back: %s", self._job.id, error)
            return
        for part in parts:
            part.recalled = True
        self._looked = 0.0

    def _look(self) -> None:
        """Sees how the parts and the workers are, now and then."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            if self._parts:
                self._see_parts(now)
            self._see_workers()
        except (SQLAlchemyError, redis.RedisError, StorageError) as error:
            logger.warning("job %s: its parts are not seen: %s", self._job.id, error)
            self._free = 0

    def _see_parts(self, now: float) -> None:
        names = {part.id: name for name, part in self._parts.items()}
        for record in self._ledger.subtrees.look(list(names)):
            part = self._parts[names[record.id]]
            if part.state is JobState.QUEUED and record.state is not JobState.QUEUED:
                part.begun = now
            part.state = record.state
            if record.state in TERMINAL:
                self._done[names[record.id]] = self._answer(record.answer)
                del self._parts[names[record.id]]

    def _answer(self, sha256: str | None) -> bytes | None:
        try:
            return None if sha256 is None else self._artifacts.read(sha256)
        except NotFoundError:
            return None

    def _see_workers(self) -> None:
        workers = [each for each in self._dispatcher.workers() if _QUEUE in each.queues and not each.draining]
        served = {queue for each in workers for queue in each.queues}
        entries = sum(depth for queue, depth in self._dispatcher.depths().items() if queue in served)
        mine = sum(part.state is JobState.QUEUED for part in self._parts.values())
        idle = sum(not each.busy for each in workers)
        self._free = max(0, min(idle - entries, self._settings.share_workers - len(self._parts)))
        if entries > mine and not idle:
            # somebody else's question waits: whoever helps here has done enough
            self._ask_back([part for part in self._parts.values() if not part.recalled])


def search_part(
    job: JobRecord, network: Network, lease: Lease, artifacts: Artifacts, keeper: Keeper, *, threads: int
) -> dict[str, Any]:
    """Searches a part for its time, or until it is called back; the verdict of such a job names its answer.

    Raises:
        ParcelError: its documents are not about this network.
    """
    import torch

    import networks
    from solver import policy
    from solver.subtree import Helper

    part = job.request["part"]
    if "network" in part:
        network = networks.load_bytes(artifacts.read(part["network"]), name=network.name, compare=False)
    torch.set_num_threads(policy.TORCH_THREADS)
    begin = time.monotonic()

    def stop() -> Reason | None:
        if lease.stop():
            return Reason.CANCELLED
        return Reason.TIMEOUT if time.monotonic() - begin >= part["seconds"] else None

    problem, piece = (artifacts.read(part[name]) for name in ("problem", "piece"))
    answer = Helper(network).search(problem, piece, stop=stop, threads=threads)
    keeper.put(answer)
    verdict = Verdict(
        Outcome.UNKNOWN,
        None,
        (float("-inf"), float("inf")),
        time.monotonic() - begin,
        hint=f"this is a part of job {job.parent}, which has the verdict",
    )
    return verdict.to_json() | {"part": {"answer": digest(answer)}}
