"""Collecting what has expired: one pass over ledger and artifacts, by `netproof admin gc`.

Rows go first, then what they alone kept. A file goes when three things hold: no record names it, it was found unnamed
by a pass at least `safety_seconds` earlier, and nobody has put it since. The seconds are more than any job may take, so
a job that is about to name a certificate which it has just stored is never too late; and should somebody store the same
bytes again in the very moment of their removal, they notice and put them once more (`Upload.confirm`).

A pass that is cut short leaves nothing half done that the next does not finish. Several at a time are harmless.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.artifacts import Artifacts
from service.ledger import Ledger
from service.retention import chunks
from service.settings import Settings

__all__ = ["Collected", "collect", "safety_seconds"]

#: Files that are removed while whoever adds a record has to wait.
_FILES = 8


@dataclass(slots=True)
class Collected:
    """What a pass has removed, or with ``dry_run`` would remove now.

    Attributes:
        jobs, batches, networks, datasets: rows, those of batches' jobs not counted.
        audit, sessions: entries of the audit log, sessions that have expired.
        artifacts, bytes: files, and what they took.
        uploads: files that dead uploads had left behind.
        kept: jobs and batches that have expired but that others' verdicts were taken from.
        condemned: unreferenced networks, data sets and files that a later pass removes.
    """

    jobs: int = 0
    batches: int = 0
    networks: int = 0
    datasets: int = 0
    audit: int = 0
    sessions: int = 0
    artifacts: int = 0
    bytes: int = 0
    uploads: int = 0
    kept: int = 0
    condemned: int = 0

    def to_json(self) -> dict[str, int]:
        return dataclasses.asdict(self)


def safety_seconds(settings: Settings) -> float:
    """How long something must have been unreferenced before it goes: longer than any job takes to name what it has."""
    return max(settings.gc_safety_hours * 3600.0, settings.max_time_limit + 3600.0)


def collect(
    ledger: Ledger,
    artifacts: Artifacts,
    settings: Settings,
    *,
    dry_run: bool = False,
    safety: float | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Collected:
    """One pass.

    Args:
        ledger, artifacts, settings: of the deployment.
        dry_run: count, and change nothing.
        safety: seconds in place of `safety_seconds`; less is safe only while the service is stopped.
        now: clock, for tests.

    Raises:
        StorageError: the artifacts cannot be reached; what went until then is gone in ledger and artifacts alike.
        SQLAlchemyError: the database does not answer.
    """
    patience = timedelta(seconds=safety_seconds(settings) if safety is None else safety)
    work = _Pass(ledger, artifacts, settings, now(), patience, dry_run=dry_run)
    work.rows()
    for kind in ("network", "dataset"):
        work.contents(kind)
    work.files()
    return work.found


class _Pass:
    def __init__(
        self,
        ledger: Ledger,
        artifacts: Artifacts,
        settings: Settings,
        moment: datetime,
        patience: timedelta,
        *,
        dry_run: bool,
    ) -> None:
        self.found = Collected()
        self._ledger = ledger.retention
        self._artifacts = artifacts
        self._settings = settings
        self._moment = moment
        self._patience = patience
        self._dry_run = dry_run

    def rows(self) -> None:
        """Jobs, batches, the audit log."""
        jobs_before = self._before(self._settings.keep_jobs_days)
        batches_before = self._before(self._settings.keep_batches_days)
        jobs = set() if jobs_before is None else set(self._ledger.expired_jobs(jobs_before))
        # those whose removal was interrupted go whatever the settings say
        batches = set(self._ledger.expired_batches(batches_before or datetime.fromtimestamp(0, UTC)))
        expired = jobs | batches
        if expired:
            leaving = _leaving(expired, self._ledger.origins())
            if not self._dry_run:
                # no later question is served by them; those that just were count once more
                self._ledger.forget_answers(leaving)
                leaving = _leaving(leaving, self._ledger.origins())
            self.found.kept = len(expired) - len(leaving)
            jobs, batches = jobs & leaving, batches & leaving
        audit_before = self._before(self._settings.keep_audit_days)
        if self._dry_run:
            self.found.jobs, self.found.batches = len(jobs), len(batches)
            return
        self.found.jobs = self._ledger.remove_jobs(jobs)
        self.found.batches = sum(self._ledger.remove_batch(batch, before=batches_before) for batch in sorted(batches))
        self.found.audit = 0 if audit_before is None else self._ledger.remove_audit(audit_before)
        self.found.sessions = self._ledger.remove_sessions()

    def contents(self, kind: str) -> None:
        """Networks or data sets that nothing refers to, or that nobody has any more."""
        before = self._before(self._settings.keep_networks_days)
        idle = set(self._ledger.idle(kind, None))
        if before is not None:
            idle.update(self._ledger.idle(kind, before))
        due = self._condemn(kind, idle)
        removed = len(due) if self._dry_run else sum(self._ledger.remove_content(kind, sha256) for sha256 in due)
        setattr(self.found, f"{kind}s", removed)

    def files(self) -> None:
        """Artifacts that no record names."""
        names = set(self._artifacts.names())
        unnamed = names - self._ledger.evidence()
        old = self._patience.total_seconds()
        due = [name for name in self._condemn("artifact", unnamed) if (self._artifacts.age(name) or 0.0) >= old]
        if self._dry_run:
            self.found.artifacts = len(due)
            self.found.bytes = sum(self._artifacts.size(name) for name in due)
            return
        for chunk in chunks(due, _FILES):
            with self._ledger.release("artifact", chunk) as released:
                for name in released:
                    self.found.bytes += self._artifacts.delete(name)
                    self.found.artifacts += 1
        self.found.uploads = self._artifacts.tidy(old)

    def _condemn(self, kind: str, unreferenced: set[str]) -> list[str]:
        """Bring the list of condemned ones up to date; those of them that were on it for long enough."""
        known = self._ledger.condemned(kind)
        limit = self._moment - self._patience
        if not self._dry_run:
            self._ledger.spare(kind, [key for key in known if key not in unreferenced])
            self._ledger.condemn(kind, [key for key in unreferenced if key not in known], self._moment)
            known = self._ledger.condemned(kind)
        due = sorted(key for key, since in known.items() if key in unreferenced and since <= limit)
        self.found.condemned += len(unreferenced) - len(due)
        return due

    def _before(self, days: float | None) -> datetime | None:
        return None if days is None else self._moment - timedelta(days=days)


def _leaving(expired: Iterable[str], origins: Iterable[tuple[str, str]]) -> set[str]:
    """Those that no verdict which stays was taken from, directly or by way of one that stays for this reason."""
    leaving = set(expired)
    while staying := {origin for origin, keeper in origins if origin in leaving and keeper not in leaving}:
        leaving -= staying
    return leaving
