"""The ledger's part that takes new questions in, many at once.

Requests that come at the same time are written in one transaction: what they cost the database is then the transaction,
and not one each. It is committed before anybody is answered. Where one of them cannot be written (its idempotency key
came before, its network is gone), each is written by itself, so that none spoils another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from service.access.principal import LOCAL
from service.answers import Answers, Asked
from service.errors import IdempotencyError, NotFoundError
from service.identifiers import new_id
from service.job_rows import read_job
from service.models import JobRecord, jobs, networks, owned_key, queued_job
from service.states import JobState

__all__ = ["Submission", "Submissions"]

#: A job as the database completes what `queued_job` leaves out.
_BLANK: dict[str, Any] = {column.name: None for column in jobs.c} | {"attempt": 0, "losses": 0}


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
        at_once: how many of the owner's jobs may run at the same time; None: any number.
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
    at_once: int | None = None
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
            For each its job and whether it is new, or why there is none: NotFoundError (the network is unknown) or
            IdempotencyError (the key came before with another fingerprint).
        """
        values = [self._values(each) for each in wanted]
        try:
            with self._engine.begin() as connection:
                known = self._answers.look_up(connection, [(each.asked, each.owner) for each in wanted if each.asked])
                for each, row in zip(wanted, values, strict=True):
                    verdict = each.verdict or (known.get((each.asked, each.owner)) if each.asked else None)
                    if verdict is not None:
                        row |= {"state": JobState.SUCCEEDED, "verdict": verdict, "finished_at": row["created_at"]}
                connection.execute(insert(jobs), values)
        except IntegrityError as error:
            if len(wanted) > 1:
                return [self.record([each])[0] for each in wanted]
            return [self._refused(wanted[0], error)]
        return [(JobRecord.of(row), True) for row in values]

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
            at_once=each.at_once,
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
