"""Jobs over HTTP: shown, waited for, followed, listed, cancelled; and the evidence that they leave."""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import httpx
import numpy as np
import pytest

from service.states import JobState
from solver.verdict import Counterexample, Outcome, Reason, Trust, Verdict
from tests.random_networks import dense_model
from tests.service.serving import Service, ball, problem

FOUND = Counterexample(
    input=np.array([0.1, 0.25, 0.75], np.float32),
    output=np.array([-1.5, 0.3], np.float32),
    clause="class 1",
    margin=-1.8,
)
REFUTED = Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-2.0, -1.8), 0.5, counterexample=FOUND).to_json()
UNDECIDED = Verdict(Outcome.UNKNOWN, None, (-math.inf, 0.5), 0.5, reason=Reason.TIMEOUT, hint="more time").to_json()
REPORT = {"stage": "milp", "seconds": 1.5, "margin": [-0.5, None], "open": 2, "nodes": 17}


def events_of(web: Service, job_id: str, after: str | None = None) -> list[dict[str, Any]]:
    """All events that the service sends for a job, with the fields of each."""
    headers = {"Last-Event-ID": after} if after else {}
    with web.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        text = answer.read().decode()
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [dict(line.split(": ", 1) for line in lines if not line.startswith(":")) for lines in blocks]


def fail(web: Service, job_id: str, **error: str) -> None:
    """Let the job fail as a worker would."""
    assert web.ledger.finish(job_id, web.begin(job_id).attempt, JobState.FAILED, error=dict(error))


@pytest.fixture
def refuted(web: Service) -> str:
    """A job that found a counterexample."""
    job_id = web.queued_job()
    web.end(web.begin(job_id), REFUTED)
    return job_id


def test_a_job_shows_its_bounds_and_then_its_verdict(web: Service) -> None:
    job_id = web.queued_job()
    job = web.begin(job_id)
    web.ledger.renew(job_id, job.attempt, lease_seconds=60, progress=REPORT)
    answer = web.http.get(f"/v1/jobs/{job_id}")
    document = answer.json()
    assert answer.headers["Retry-After"] == "1"
    progress = REPORT | {"distance": None, "flips": None, "helpers": 0}
    assert (document["state"], document["progress"], document["verdict"]) == ("running", progress, None)
    assert document["links"]["cancel"] == f"/v1/jobs/{job_id}/cancel"
    assert document["attempts"][0]["worker"] == "test"
    web.end(job, UNDECIDED)
    answer = web.http.get(f"/jobs/{job_id}")
    document = answer.json()
    assert "Retry-After" not in answer.headers
    assert document["state"] == "succeeded"
    assert document["verdict"] == UNDECIDED | {"cached_from": None, "product": None, "universal": None, "history": []}
    assert document["links"]["cancel"] is None
    assert document["links"]["counterexample"] is None


def test_a_failed_job_says_why(web: Service) -> None:
    job_id = web.queued_job()
    fail(web, job_id, code="worker_lost", message="three workers were lost")
    document = web.http.get(f"/v1/jobs/{job_id}").json()
    assert document["state"] == "failed"
    assert document["error"] == {
        "type": "urn:netproof:problem:worker-lost",
        "title": "The job lost its workers",
        "detail": "three workers were lost",
    }


def test_a_failure_about_the_input_has_the_type_that_the_edge_uses(web: Service) -> None:
    job_id = web.queued_job()
    fail(web, job_id, code="VnnlibError", message="line 3")
    assert web.http.get(f"/v1/jobs/{job_id}").json()["error"]["type"] == "urn:netproof:problem:invalid-vnnlib"


def test_the_input_is_shown_when_asked_for(web: Service) -> None:
    job_id = web.queued_job()
    query = web.http.get(f"/v1/jobs/{job_id}").json()["request"]["query"]
    assert "input" not in query
    assert query["omitted"] == ["input"]
    shown = web.http.get(f"/v1/jobs/{job_id}?include=input").json()["request"]["query"]["input"]
    assert shown == ball()["input"]


def test_an_etag_spares_what_is_known(web: Service) -> None:
    job_id = web.queued_job()
    tag = web.http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    for header in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        answer = web.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": header})
        assert (answer.status_code, answer.content) == (304, b"")
    web.begin(job_id)
    answer = web.http.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": tag})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("job_id", ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "x", "%00", "..%2f..", "'; DROP TABLE jobs"])
@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/jobs/{}", "/v1/jobs/{}/events", "/v1/jobs/{}/counterexample"])
def test_unknown_jobs_are_not_found(web: Service, job_id: str, path: str) -> None:
    problem(web.http.get(path.format(job_id)), 404)


class TestWaiting:
    def test_ends_with_the_job(self, live: Service) -> None:
        answer = live.ask(ball())
        document = live.http.get(f"/v1/jobs/{answer.json()['id']}", params={"wait": 20}).json()
        assert document["state"] == "succeeded"

    def test_ends_with_the_job_though_redis_is_away(self, tmp_path: Any) -> None:
        service = Service(tmp_path)
        try:
            job_id = service.queued_job()
            service.server.stop()
            timer = threading.Timer(0.3, lambda: service.end(service.begin(job_id), UNDECIDED))
            timer.start()
            answer = service.http.get(f"/v1/jobs/{job_id}?wait=20")
            timer.join()
            assert answer.json()["state"] == "succeeded"
            assert answer.elapsed.total_seconds() < 10
        finally:
            service.server.start()
            service.close()

    @pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon"])
    def test_takes_a_number(self, web: Service, wait: str) -> None:
        document = problem(web.http.get(f"/v1/jobs/{web.queued_job()}?wait={wait}"), 422)
        assert document["errors"][0]["pointer"] == "wait"


class TestEvents:
    def test_tell_the_whole_story_and_end(self, web: Service, refuted: str) -> None:
        events = events_of(web, refuted)
        assert [json.loads(event["data"])["state"] for event in events] == ["queued", "running", "succeeded"]
        assert {event["event"] for event in events} == {"state"}

    def test_resume_after_the_last_one_seen(self, web: Service, refuted: str) -> None:
        events = events_of(web, refuted)
        assert events_of(web, refuted, after=events[0]["id"]) == events[1:]

    def test_arrive_while_the_job_runs(self, web: Service) -> None:
        job_id = web.queued_job()
        seen: list[tuple[float, str]] = []

        def work() -> None:
            job = web.begin(job_id)
            time.sleep(0.2)
            web.events.publish(job_id, "progress", REPORT)
            time.sleep(0.5)
            web.end(job, UNDECIDED)

        worker = threading.Thread(target=work)
        worker.start()
        with web.http.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            seen = [(time.monotonic(), line) for line in answer.iter_lines() if line.startswith("data: ")]
        worker.join()
        data = [json.loads(line.removeprefix("data: ")) for _, line in seen]
        assert data[2] == REPORT
        assert data[3]["state"] == "succeeded"
        assert seen[3][0] - seen[2][0] > 0.3, "progress arrived only with the end"

    def test_end_although_the_stream_is_lost(self, web: Service, refuted: str) -> None:
        web.dispatcher.redis.delete(f"netproof:events:{refuted}")
        (event,) = events_of(web, refuted)
        assert json.loads(event["data"]) == {"state": "succeeded", "attempt": 1}
        assert "id" not in event

    def test_end_with_the_process_to_be_resumed_at_the_next(self, tmp_path: Any) -> None:
        service = Service(tmp_path)
        try:
            job_id = service.queued_job()
            stopper = threading.Timer(0.3, service.stop_web)
            stopper.start()
            events = events_of(service, job_id)
            stopper.join(4)
            assert not stopper.is_alive(), "an open stream held the process up"
            *before, hint = events
            assert [json.loads(event["data"])["state"] for event in before] == ["queued"]
            assert int(hint["retry"]) > 0
        finally:
            service.close()

    @pytest.mark.parametrize("last", ["x", "1-2-3", "99999999999999999999", "-1", "$"])
    def test_refuse_what_is_not_an_identifier(self, web: Service, refuted: str, last: str) -> None:
        answer = web.http.get(f"/v1/jobs/{refuted}/events", headers={"Last-Event-ID": last})
        assert problem(answer, 422)["errors"][0]["pointer"] == "Last-Event-ID"


class TestList:
    @pytest.fixture
    def jobs(self, web: Service) -> tuple[str, list[str]]:
        network = web.upload(dense_model(11))
        return network, [web.ask(ball(), network=network).json()["id"] for _ in range(5)]

    def pages(self, web: Service, path: str) -> Iterator[dict[str, Any]]:
        while True:
            answer = web.http.get(path)
            yield answer.json()
            if "Link" not in answer.headers:
                return
            path = answer.links["next"]["url"]

    def test_pages_lead_through_all_newest_first(self, web: Service, jobs: tuple[str, list[str]]) -> None:
        network, ids = jobs
        pages = list(self.pages(web, f"/v1/jobs?network={network}&limit=2&state=queued"))
        assert [[job["id"] for job in page["jobs"]] for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1]]
        assert [page["next_cursor"] for page in pages] == [ids[3], ids[1], None]

    def test_evidence_is_left_out(self, web: Service, refuted: str) -> None:
        (job,) = web.http.get("/v1/jobs?state=succeeded&limit=1").json()["jobs"]
        assert job["id"] == refuted
        assert job["verdict"]["verdict"] == "counterexample"
        assert job["verdict"]["counterexample"] is None
        assert job["links"]["counterexample"]

    @pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "state=done", "network=abc"])
    def test_parameters_are_checked(self, web: Service, query: str) -> None:
        document = problem(web.http.get(f"/v1/jobs?{query}"), 422)
        assert document["errors"][0]["pointer"] == query.partition("=")[0]

    def test_parameters_are_given_once(self, web: Service) -> None:
        document = problem(web.http.get("/v1/jobs?limit=1&state=queued&limit=2"), 422)
        assert document["errors"] == [{"pointer": "limit", "detail": "given 2 times; give it once"}]
        assert web.http.get(f"/v1/jobs/{web.queued_job()}?include=input&include=input").is_success


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, web: Service) -> None:
        job_id = web.queued_job()
        for _ in range(2):
            answer = web.http.post(f"/v1/jobs/{job_id}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
        assert json.loads(events_of(web, job_id)[-1]["data"])["state"] == "cancelled"

    def test_a_running_job_is_asked_to_stop(self, web: Service) -> None:
        job_id = web.queued_job()
        job = web.begin(job_id)
        for _ in range(2):
            answer = web.http.post(f"/v1/jobs/{job_id}/cancel")
            assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")
        assert web.ledger.renew(job_id, job.attempt, lease_seconds=60) is JobState.CANCELLING

    def test_an_ended_job_cannot_be_cancelled(self, web: Service, refuted: str) -> None:
        document = problem(web.http.post(f"/v1/jobs/{refuted}/cancel"), 409)
        assert document["type"] == "urn:netproof:problem:job-ended"


class TestCounterexample:
    def get(self, web: Service, job_id: str, how: str = "", accept: str = "*/*") -> httpx.Response:
        return web.http.get(f"/v1/jobs/{job_id}/counterexample{how}", headers={"Accept": accept})

    def test_is_json_by_default(self, web: Service, refuted: str) -> None:
        answer = self.get(web, refuted)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == FOUND.to_json()

    @pytest.mark.parametrize(("how", "accept"), [("?format=npy", "*/*"), ("", "application/x-npy")])
    def test_is_an_array(self, web: Service, refuted: str, how: str, accept: str) -> None:
        answer = self.get(web, refuted, how, accept)
        array = np.load(io.BytesIO(answer.content), allow_pickle=False)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, FOUND.input)
        assert answer.headers["Content-Disposition"] == f'attachment; filename="counterexample-{refuted}.npy"'

    def test_is_a_pair_of_arrays(self, web: Service, refuted: str) -> None:
        with np.load(io.BytesIO(self.get(web, refuted, "?format=npz").content), allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["input"], FOUND.input)
            np.testing.assert_array_equal(arrays["output"], FOUND.output)

    @pytest.mark.parametrize(
        ("how", "accept"), [("?format=vnncomp", "*/*"), ("", "text/plain, application/json;q=0.5")]
    )
    def test_is_a_text(self, web: Service, refuted: str, how: str, accept: str) -> None:
        text = self.get(web, refuted, how, accept).text
        assert text.startswith("sat\n((X_0 0.10000000149011612)")
        assert text.endswith("(Y_1 0.30000001192092896))\n")

    def test_may_be_an_exact_witness(self, web: Service) -> None:
        found = replace(FOUND, exact_margin=-1.75, exact_input=(Fraction(1, 10), Fraction(1, 4), Fraction(3, 4)))
        job_id = web.queued_job()
        verdict = Verdict(Outcome.COUNTEREXAMPLE, found.trust, (-2.0, found.attained), 0.5, counterexample=found)
        web.end(web.begin(job_id), verdict.to_json())
        assert web.http.get(f"/v1/jobs/{job_id}").json()["verdict"]["trust"] == "exact"
        document = self.get(web, job_id).json()
        assert (document["exact_input"], document["in_region"]) == (["0.1", "0.25", "0.75"], False)
        assert "(X_0 0.1)\n" in self.get(web, job_id, "?format=vnncomp").text
        array = np.load(io.BytesIO(self.get(web, job_id, "?format=npy").content), allow_pickle=False)
        np.testing.assert_array_equal(array, FOUND.input)

    def test_comes_in_no_other_form(self, web: Service, refuted: str) -> None:
        problem(self.get(web, refuted, accept="image/png"), 406)
        problem(self.get(web, refuted, "?format=png"), 422)

    def test_is_missing_where_none_was_found(self, web: Service) -> None:
        job_id = web.queued_job()
        document = problem(self.get(web, job_id), 409)
        assert document["type"] == "urn:netproof:problem:job-not-ended"
        web.end(web.begin(job_id), UNDECIDED)
        document = problem(self.get(web, job_id), 404)
        assert document["type"] == "urn:netproof:problem:no-counterexample"
        assert "unknown" in document["detail"]
