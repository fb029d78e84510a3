"""A deployment with its web process, which runs as a thread of the test and is spoken to over a socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from service.models import JobRecord
from service.readers import Readers
from service.states import JobState
from service.web import WebServer
from tests.faults.deployment import Deployment
from tests.random_networks import dense_model

__all__ = ["NETWORK", "PROBLEM", "Service", "ball", "problem", "read_with"]

PROBLEM = "application/problem+json"
#: Three inputs, two outputs.
NETWORK = dense_model(7)


class Service(Deployment):
    """Ledger, queue and web; `start_worker` adds a worker."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, port=0, **settings)
        self._web = WebServer(self.settings)
        self._thread = threading.Thread(target=self._web.run)
        self._thread.start()
        while not self._web.started:
            assert self._thread.is_alive(), "the web process ended while it started"
            time.sleep(0.01)
        port = self._web.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def close(self) -> None:
        self.http.close()
        self.stop_web()
        super().close()

    def stop_web(self) -> None:
        """End the web process as SIGTERM does."""
        self._web.should_exit = True
        self._thread.join()

    def upload(self, network: bytes = NETWORK) -> str:
        """The sha256 under which the service knows the network."""
        answer = self.http.post("/v1/networks", content=network)
        assert answer.is_success, answer.text
        return str(answer.json()["sha256"])

    def ask(self, query: dict[str, Any], **members: Any) -> httpx.Response:
        """POST /v1/verify, with NaN and infinity as Python's json writes them."""
        headers = {"Content-Type": "application/json"}
        body = {"network": members.pop("network", None) or self.upload(), "query": query, **members}
        return self.http.post("/v1/verify", content=json.dumps(body).encode(), headers=headers)

    def queued_job(self) -> str:
        """The identifier of a job that no worker has taken."""
        answer = self.ask(ball(), reuse=False)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def begin(self, job_id: str) -> JobRecord:
        """Take the job as a worker would."""
        job = self.ledger.start(job_id, worker="test", lease_seconds=60)
        assert job is not None
        self.events.publish(job_id, "state", {"state": JobState.RUNNING, "attempt": job.attempt})
        return job

    def end(self, job: JobRecord, verdict: dict[str, Any]) -> None:
        """Finish the job as a worker would."""
        assert self.ledger.finish(job.id, job.attempt, JobState.SUCCEEDED, verdict=verdict)
        self.events.publish(job.id, "state", {"state": JobState.SUCCEEDED, "attempt": job.attempt})


def ball(**members: Any) -> dict[str, Any]:
    """A query that fits `NETWORK`."""
    return {"input": [0.5, 0.25, 0.75], "epsilon": 0.001, "domain": [0, 1], "label": 0} | members


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document that ``answer`` must be, with no trace of the program in it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    document = answer.json()
    assert document["status"] == status
    assert {"type", "title", "detail", "instance"} <= document.keys()
    assert document["instance"].endswith(answer.headers["X-Request-ID"])
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return dict(document)


def read_with(function: Callable[..., Awaitable[dict[str, Any]]], *arguments: object, **options: Any) -> dict[str, Any]:
    """What ``function(readers, …)`` returns, with a readers' server of its own."""

    async def read() -> dict[str, Any]:
        readers = Readers()
        try:
            return await function(readers, *arguments, **options)
        finally:
            readers.close()

    return asyncio.run(read())
