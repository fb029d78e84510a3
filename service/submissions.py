"""The ledger's part that takes new questions in, many at once.

Requests that come at the same time are written in one transaction: what they cost the database is then the transaction,
and not one each. It is committed before anybody is answered. Where one of them cannot be written (its idempotency key
came before, its network is gone), each is written by itself, so that none spoils another's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError

from service.access.principal import LOCAL, Quota
from service.access.usage import check_questions, take_turns
from service.answers import Answers, Asked
from service.errors import IdempotencyError, NotFoundError, QuotaError
from service.identifiers import new_id
from service.job_rows import read_job
from service.models import JobRecord, jobs, networks, owned_key, queued_job
from service.states import JobState

__all__ = ["Submission", "Submissions"]

#: A job as the database completes what `queued_job` leaves out.
_BLANK: dict[str, Any] = {column.name: None for column in jobs.c} | {"attempt": 0, "losses": 0}
_INSERT = insert(jobs)


@dataclass(frozen=True, slots=True)
class Submission:
    """A question on its way into the ledger.

    Attributes:
        request: as `service.admission.admit` completes it.
        queue, time_limit, max_attempts: of its job.
        asked: what a known answer is looked up by; None: it is decided anew.
        verdict: of an answer that the caller knows already.
        idempotency_key: the same key gives the same job.
        fingerprint: digest of the request that the key came with.
        owner: who asks.
        quota: what the owner may have at work; answers that are known count for nothing.
        origin: request and trace that it came with, see `service.context.origin`.
    """

    request: dict[str, Any]
    queue: str
    time_limit: float
    max_attempts: int
    asked: Asked | None = None
    verdict: dict[str, Any] | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    owner: str = LOCAL
    quota: Quota = field(default_factory=Quota)
    origin: dict[str, str] | None = None


class Submissions:
    """New jobs; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime], answers: Answers) -> None:
        self._engine = engine
        self._now = now
        self._answers = answers

    def record(self, wanted: Sequence[Submission]) -> list[tuple[JobRecord, bool] | Exception]:
        """Record a job for each: queued, or ended at once where the answer is known.

        Returns:
            For each its job and whether it is new, or why there is none: NotFoundError (the network is unknown),
            IdempotencyError (the key came before with another fingerprint) or QuotaError.
        """
        rows = [self._values(each) for each in wanted]
        refused: dict[int, Exception] = {}
        try:
            with self._engine.begin() as connection:
                self._answer(connection, wanted, rows)
                refused = self._beyond_quota(connection, wanted, rows)
                if fit := [row for place, row in enumerate(rows) if place not in refused]:
                    # two processes that write the same keys must not wait for each other
                    connection.execute(_INSERT, sorted(fit, key=lambda row: row["idempotency_key"] or ""))
        except IntegrityError as error:
            if len(wanted) > 1:
                return [self.record([each])[0] for each in wanted]
            return [self._refused(wanted[0], error)]
        return [refused.get(place) or (JobRecord.of(row), True) for place, row in enumerate(rows)]

    def _answer(self, connection: Connection, wanted: Sequence[Submission], rows: Sequence[dict[str, Any]]) -> None:
        """End those rows whose answers are known."""
        known = self._answers.look_up(connection, [(each.asked, each.owner) for each in wanted if each.asked])
        for each, row in zip(wanted, rows, strict=True):
            verdict = each.verdict or (known.get((each.asked, each.owner)) if each.asked else None)
            if verdict is not None:
                row |= {"state": JobState.SUCCEEDED, "verdict": verdict, "finished_at": row["created_at"]}

    def _beyond_quota(
        self, connection: Connection, wanted: Sequence[Submission], rows: Sequence[dict[str, Any]]
    ) -> dict[int, Exception]:
        """Places of those that have to be worked on and may not, with the reasons."""
        adding: Counter[str] = Counter()
        refused: dict[int, Exception] = {}
        limited = [
            (place, each)
            for place, each in enumerate(wanted)
            if rows[place]["state"] == JobState.QUEUED
            and (each.quota.queued is not None or each.quota.cpu_seconds is not None)
        ]
        take_turns(connection, "questions", (each.owner for _, each in limited))
        for place, each in limited:
            try:
                check_questions(connection, each.owner, each.quota, adding[each.owner] + 1, self._now())
            except QuotaError as error:
                if not _came_before(connection, rows[place]["idempotency_key"]):
                    refused[place] = error
            else:
                adding[each.owner] += 1
        return refused

    def _values(self, each: Submission) -> dict[str, Any]:
        moment = self._now()
        identifier = new_id(int(moment.timestamp() * 1000))
        network = each.request["network"]
        row = queued_job(
            identifier,
            network,
            each.request,
            each.queue,
            each.time_limit,
            each.max_attempts,
            moment,
            owner=each.owner,
            at_once=each.quota.running,
            origin=each.origin,
        )
        key = owned_key(each.owner, each.idempotency_key)
        return _BLANK | row | {"idempotency_key": key, "fingerprint": each.fingerprint}

    def _refused(self, each: Submission, error: IntegrityError) -> tuple[JobRecord, bool] | Exception:
        """What a single submission that could not be written comes to."""
        network = each.request["network"]
        with self._engine.connect() as connection:
            if connection.execute(select(networks.c.sha256).where(networks.c.sha256 == network)).first() is None:
                return NotFoundError(network, kind="network")
            if each.idempotency_key is None:
                return error
            key = owned_key(each.owner, each.idempotency_key)
            row = connection.execute(select(jobs.c.id, jobs.c.fingerprint).where(jobs.c.idempotency_key == key)).one()
            if row.fingerprint != each.fingerprint:
                return IdempotencyError(each.idempotency_key, f"job {row.id}")
            return read_job(connection, row.id), False


def _came_before(connection: Connection, key: str | None) -> bool:
    """Whether a request with this key made a job, which its repetition gets whatever the quota says by now."""
    query = select(jobs.c.id).where(jobs.c.idempotency_key == key)
    return key is not None and connection.execute(query).first() is not None
