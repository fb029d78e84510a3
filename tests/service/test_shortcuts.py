"""The short way answers as the long one does: the same documents, headers and refusals."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.serving import Service, ball

VARYING = {"x-request-id", "date", "content-length"}


@pytest.fixture
def known(web: Service) -> dict[str, Any]:
    """A question whose answer is known, as the body of a request."""
    body = {"network": web.upload(), "query": ball(input=[0.125, 0.875, 0.375])}
    job = web.http.post("/v1/verify", json=body).json()
    if job["state"] == "queued":
        from service.posed import Posed

        begun = web.begin(job["id"])
        verdict = {"verdict": "robust", "trust": "solver", "margin": [0.5, 1.0], "seconds": 2.0}
        asked = Posed.of(begun.request).asked
        assert web.ledger.finish(begun.id, begun.attempt, "succeeded", verdict=verdict, asked=asked)  # type: ignore[arg-type]
    return body


def headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in VARYING}


def test_a_known_answer(web: Service, known: dict[str, Any]) -> None:
    short = web.http.post("/v1/verify", json=known)
    long = web.http.post("/v1/verify?wait=0", json=known)
    assert (short.status_code, long.status_code) == (200, 200)
    apart = {"id", "created_at", "finished_at", "links"}
    first, second = short.json(), long.json()
    assert first["verdict"]["cached_from"]["seconds"] == 2.0
    assert {k: v for k, v in first.items() if k not in apart} == {k: v for k, v in second.items() if k not in apart}
    assert short.headers["Location"] == first["links"]["self"] == f"/v1/jobs/{first['id']}"
    assert headers(short) | {"location": ""} == headers(long) | {"location": ""}
    assert web.ledger.job(first["id"]).verdict is not None


@pytest.mark.parametrize("path", ["/v1/jobs/", "/jobs/"])
def test_a_job(web: Service, known: dict[str, Any], path: str) -> None:
    for body in (known, known | {"reuse": False}):  # one that has ended and one that has not
        job = web.http.post("/verify", json=body).json()["id"]
        for tag in ("", '"another"'):
            short = web.http.get(f"{path}{job}", headers={"If-None-Match": tag} if tag else {})
            long = web.http.get(f"{path}{job}?wait=0", headers={"If-None-Match": tag} if tag else {})
            assert short.status_code == long.status_code == 200
            assert short.content == long.content
            assert headers(short) == headers(long)
        for tag in (short.headers["ETag"], f'"x", W/{short.headers["ETag"]}', "*"):
            answer = web.http.get(f"{path}{job}", headers={"If-None-Match": tag})
            assert (answer.status_code, answer.content) == (304, b"")


def test_a_job_that_goes_on_is_read_each_time(web: Service) -> None:
    job = web.queued_job()
    before = web.http.get(f"/v1/jobs/{job}")
    begun = web.begin(job)
    assert web.http.get(f"/v1/jobs/{job}").json()["state"] == "running"
    web.end(begun, {"verdict": "robust", "trust": "solver", "margin": [0.5, 1.0], "seconds": 2.0})
    after = web.http.get(f"/v1/jobs/{job}", headers={"If-None-Match": before.headers["ETag"]})
    assert (after.status_code, after.json()["state"]) == (200, "succeeded")


@pytest.mark.parametrize(
    "body",
    [{"network": "0" * 64, "query": ball()}, {"query": []}, {"query": ball(label=7)}, {"query": ball(epsilon="x")}],
)
def test_refusals(web: Service, body: dict[str, Any]) -> None:
    body = {"network": web.upload()} | body
    short, long = web.http.post("/v1/verify", json=body), web.http.post("/v1/verify?wait=0", json=body)
    assert 400 <= short.status_code < 500
    assert short.status_code == long.status_code
    assert headers(short) == headers(long)
    apart = {"instance"}
    assert {k: v for k, v in short.json().items() if k not in apart} == {
        k: v for k, v in long.json().items() if k not in apart
    }


def test_a_missing_job(web: Service) -> None:
    short, long = (web.http.get(f"/v1/jobs/{'0' * 26}{end}") for end in ("", "?wait=0"))
    assert (short.status_code, long.status_code) == (404, 404)
    assert short.json() | {"instance": ""} == long.json() | {"instance": ""}


def test_a_question_in_the_same_words_still_takes_a_network_that_is_there(web: Service, known: dict[str, Any]) -> None:
    """What was read before is remembered, and not what its caller may use."""
    web.http.post("/v1/verify", json=known)
    answer = web.http.post("/v1/verify", json=known | {"network": "1" * 64})
    assert answer.status_code == 404
