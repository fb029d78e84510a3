"""A service that wants keys, with two owners who have the same things, and an admin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service.access import Scope
from service.access.gate import COOKIE
from service.batch_work import Found
from service.states import JobState
from solver.verdict import Counterexample, Outcome, Trust, Verdict
from tests.random_networks import dense_model
from tests.service.records import record
from tests.service.serving import Service, ball

__all__ = ["MISSING", "Things", "World"]

#: What nobody has, by the name that paths give it.
MISSING = {
    "sha256": "0" * 64,
    "job_id": "0" * 26,
    "batch_id": "0" * 26,
    "number": "0",
    "key_id": "000000000000",
}
FOUND = Counterexample(np.array([0.1, 0.25, 0.75], np.float32), np.array([-1.5, 0.3], np.float32), "class 1", -1.8)


@dataclass(frozen=True)
class Things:
    """What one owner has: networks and data sets by their sha256, a job and a batch by their identifiers."""

    network: str
    dataset: str
    job: str
    batch: str


class World:
    """Keys by owner and scope, and the things of ``ann`` and ``bob``; each has a network that the other has not."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.service = Service(folder, access="on", quota_rate=None, **settings)
        made = [(owner, scope) for owner in ("ann", "bob") for scope in (Scope.READ, Scope.SUBMIT)]
        made.append(("root", Scope.ADMIN))
        keys = self.service.ledger.keys
        self.keys = {(owner, str(scope)): keys.create(owner, scope) for owner, scope in made}
        self.things = {owner: self._equip(owner, seed) for owner, seed in (("ann", 21), ("bob", 22))}
        session = self.service.http.post("/v1/session", json={"key": self.key("ann", "submit")})
        self.cookie = session.headers["Set-Cookie"].partition(";")[0]
        self.service.http.cookies.clear()
        assert self.cookie.startswith(COOKIE)

    def close(self) -> None:
        self.service.close()

    def forgive(self) -> None:
        """Forget which addresses have shown wrong keys."""
        self.service.dispatcher.redis.delete("netproof:rate:failures:127.0.0.1")

    def key(self, owner: str, scope: str) -> str:
        """The text of a key."""
        return self.keys[owner, scope].text

    def ask(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> httpx.Response:
        """A request with a key, or with none."""
        headers = dict(arguments.pop("headers", {})) | ({"Authorization": f"Bearer {key}"} if key else {})
        with self.service.http.stream(method, path, headers=headers, **arguments) as answer:
            if answer.headers.get("Content-Type", "").startswith("text/event-stream"):  # which may have no end
                return httpx.Response(answer.status_code, headers=answer.headers)
            answer.read()
        self.service.http.cookies.clear()
        return answer

    def _equip(self, owner: str, seed: int) -> Things:
        key = self.key(owner, "submit")
        network = self.ask("POST", "/v1/networks", key=key, content=dense_model(seed)).json()["sha256"]
        inputs = {"inputs": [[0.5, 0.25, 0.1 + seed / 1000]] * 2, "labels": [0, 1]}
        body = {"network": network, "dataset": inputs, "query": {"epsilon": 0.01, "domain": [0, 1]}}
        batch = self.ask("POST", "/v1/batches", key=key, json=body)
        assert batch.status_code == 202, batch.text
        asked = self.ask("POST", "/v1/verify", key=key, json={"network": network, "query": ball(), "reuse": False})
        assert asked.status_code == 202, asked.text
        self._finish(asked.json()["id"], batch.json()["id"])
        return Things(network, batch.json()["dataset"], asked.json()["id"], batch.json()["id"])

    def _finish(self, job_id: str, batch_id: str) -> None:
        """End the job, and the batch's first item, with every kind of evidence."""
        service = self.service
        evidence = {"bytes": 3, "sha256": service.artifacts.put(b"zip").sha256}
        found = Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-2.0, -1.8), 0.5, counterexample=FOUND).to_json()
        verdict = json.loads(json.dumps(found)) | {"certificate": evidence, "product": evidence}
        job = service.begin(job_id)
        service.end(job, verdict)
        # what a later verdict was taken from can be removed by nobody, and so stays for all tests
        later = verdict | {"cached_from": {"job": job_id}}
        record(
            service.ledger,
            job.network,
            job.request,
            queue="highs",
            time_limit=1,
            max_attempts=1,
            verdict=later,
            owner=job.owner,
        )
        (sweep,) = service.ledger.jobs(batch=batch_id, state=JobState.QUEUED)
        assert service.ledger.batches.record(service.begin(sweep.id), [Found(0, verdict)])
