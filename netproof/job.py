"""A job as the service describes it, and its events."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from netproof.answers import ClientError, Document
from solver.verdict import Counterexample

__all__ = ["Event", "EventParser", "Job", "JobFailedError"]


class JobFailedError(ClientError, RuntimeError):
    """The job ended without a verdict; ``job`` holds what is known."""

    def __init__(self, job: Job) -> None:
        problem = job.error or {}
        super().__init__(
            f"job {job.id} {job.state}: {problem.get('detail') or problem.get('title') or 'no reason given'}"
        )
        self.job = job


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: ``id`` resumes the stream after it, ``name`` is ``state`` or ``progress``."""

    id: str
    name: str
    data: Document


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service described it in ``document``."""

    document: Document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """One of queued, running, cancelling, succeeded, failed, cancelled."""
        return str(self.document["state"])

    @property
    def ended(self) -> bool:
        """Whether the job's state is final."""
        return self.state in {"succeeded", "failed", "cancelled"}

    @property
    def network(self) -> str:
        """Sha256 of the network."""
        return str(self.document["network"])

    @property
    def progress(self) -> Document | None:
        """The latest report: stage, seconds, bounds of the margin or distance, open clauses, nodes."""
        return self.document.get("progress")

    @property
    def error(self) -> Document | None:
        """The problem document of a failed job."""
        return self.document.get("error")

    @property
    def result(self) -> Document | None:
        """The verdict object: what ``netproof verify --json`` prints."""
        return self.document.get("verdict")

    @property
    def verdict(self) -> str | None:
        """``robust``, ``counterexample``, ``unknown``; None while there is none."""
        return self.result["verdict"] if self.result else None

    @property
    def trust(self) -> str | None:
        """Whose word the verdict rests on: ``certified``, ``solver``, ``replayed`` or ``exact``."""
        return self.result["trust"] if self.result else None

    @property
    def semantics(self) -> str | None:
        """Which arithmetic a ``robust`` is about: ``real``, or ``float32`` as well."""
        return self.result.get("semantics") if self.result else None

    @property
    def reason(self) -> str | None:
        """Why the verdict is ``unknown``."""
        return self.result["reason"] if self.result else None

    @property
    def margin(self) -> tuple[float | None, float | None]:
        """Proven lower and attained upper bound of the margin, None where nothing is known."""
        source = self.result or self.progress or {}
        lower, upper = source.get("margin") or (None, None)
        return lower, upper

    @property
    def kind(self) -> str:
        """What was asked: ``decide``, ``margin`` or ``distance``."""
        return str(self.document["request"]["query"].get("kind", "decide"))

    @property
    def distance(self) -> tuple[float | None, float | None]:
        """For the kind ``distance``: violations are farther away than the first, and one is as near as the second."""
        source = self.result or self.progress or {}
        lower, upper = source.get("distance") or (None, None)
        return lower, upper

    @property
    def witness(self) -> Counterexample | None:
        """For the kinds ``margin`` and ``distance``: the replayed input that the upper end rests on."""
        found = self.result and self.result.get("witness")
        return Counterexample.from_json(found) if found else None

    @property
    def seconds(self) -> float | None:
        """Seconds that deciding took, without the time in the queue."""
        return self.result["seconds"] if self.result else None

    @property
    def counterexample(self) -> Counterexample | None:
        """The input that breaks the property, as arrays."""
        found = self.result and self.result.get("counterexample")
        return Counterexample.from_json(found) if found else None


@dataclass
class EventParser:
    """Server-sent events out of their lines, one by one; comments and events without data are skipped."""

    _fields: dict[str, list[str]] = field(default_factory=dict)

    def feed(self, line: str) -> Event | None:
        """The event that ``line``, without its end, completes."""
        if line:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        data = json.loads("\n".join(fields["data"]))
        return Event(fields.get("id", [""])[-1], fields.get("event", ["message"])[-1], data)
