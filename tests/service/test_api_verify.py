"""POST /v1/verify: what becomes a job, and what is refused with words that help."""

from __future__ import annotations

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.states import JobState
from service.workers import BackendRecord, Licence
from tests.random_networks import dense_model
from tests.service.records import registered, worker
from tests.service.serving import NETWORK, Service, ball, problem

NAN = float("nan")
VNNLIB = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "X_2", "Y_0", "Y_1")) + "".join(
    f"(assert (>= X_{i} 0.25))\n(assert (<= X_{i} 0.5))\n" for i in range(3)
)


def test_a_query_becomes_a_job_that_the_queue_carries(web: Service) -> None:
    licence = BackendRecord("13.0", Licence.FULL, "a full licence")
    with registered(web, worker("licensed", licence)):
        answer = web.ask(ball(), engine="milp", backend="gurobi", priority="high", seed=7, time_limit=5)
    document = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == document["links"]["self"] == f"/v1/jobs/{document['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert document["state"] == "queued"
    assert document["verdict"] is None
    job = web.ledger.job(document["id"])
    assert (job.queue, job.time_limit) == ("gurobi-high", 5)
    assert job.request["query"] == ball() | {"norm": "linf"}
    assert not web.dispatcher.missing([job])


def test_defaults_are_filled_in(web: Service) -> None:
    document = web.ask(ball()).json()
    assert document["request"]["engine"] == "auto"
    assert document["request"]["time_limit"] == web.settings.default_time_limit
    assert "input" not in document["request"]["query"]


def test_a_fraction_keeps_its_text(web: Service) -> None:
    job = web.ledger.job(web.ask(ball(epsilon="1/255", domain=["0", 1])).json()["id"])
    assert job.request["query"]["epsilon"] == "1/255"
    assert job.request["query"]["domain"] == ["0", 1]


def test_nested_input_is_flattened(web: Service) -> None:
    job = web.ledger.job(web.ask(ball(input=[[[0.5], [0.25], [0.75]]])).json()["id"])
    assert job.request["query"]["input"] == [0.5, 0.25, 0.75]


@pytest.mark.parametrize("path", ["/v1/verify", "/verify"])
def test_one_request_is_enough_in_json(live: Service, path: str) -> None:
    onnx = base64.b64encode(NETWORK).decode()
    answer = live.http.post(path, json={"network": {"onnx": onnx}, "query": ball()}, params={"wait": 20})
    assert answer.status_code == 200, answer.text
    assert answer.json()["verdict"]["verdict"] in {"robust", "counterexample"}


def test_one_request_is_enough_as_a_form(live: Service, tmp_path: Path) -> None:
    network = tmp_path / "net.onnx"
    network.write_bytes(NETWORK)
    fields = {"query": json.dumps(ball()), "engine": "auto", "time_limit": "20"}
    with network.open("rb") as file:
        answer = live.http.post("/v1/verify", files={"network": file}, data=fields, headers={"Prefer": "wait=20"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.json()["request"]["time_limit"] == 20


def test_a_vnnlib_query_is_answered(live: Service) -> None:
    text = VNNLIB + "(assert (<= Y_0 -1000))\n"
    answer = live.http.post("/v1/verify?wait=20", json={"network": live.upload(), "query": {"vnnlib": text}})
    assert answer.json()["verdict"]["verdict"] == "robust", answer.text


def test_a_form_may_hold_a_vnnlib_file(web: Service) -> None:
    text = VNNLIB + "(assert (<= Y_0 -1000))\n"
    for content in (text.encode(), gzip.compress(text.encode())):
        files = {"network": ("net.onnx", NETWORK), "vnnlib": ("spec.vnnlib.gz", content)}
        answer = web.http.post("/v1/verify", files=files, data={"engine": "bounds"})
        assert answer.status_code == 202, answer.text
        request = web.ledger.job(answer.json()["id"]).request
        assert (request["query"], request["engine"]) == ({"vnnlib": text}, "bounds")


@pytest.mark.parametrize(
    ("fields", "files", "status", "pointer"),
    [
        ({"query": "{}", "vnnlib": "x"}, {"network": NETWORK}, 422, "/vnnlib"),
        ({"query": json.dumps(ball()), "epsilon": "1"}, {"network": NETWORK}, 422, "/epsilon"),
        ({"query": json.dumps(ball()), "time_limit": "soon"}, {"network": NETWORK}, 422, "/time_limit"),
        ({"engine": "auto"}, {"network": NETWORK}, 422, "/query"),
        ({"query": json.dumps(ball())}, {"other": NETWORK}, 422, "/network"),
        ({}, {"network": NETWORK, "vnnlib": gzip.compress(b"x" * 1000)[:-9]}, 422, None),
        ({}, {"network": NETWORK, "vnnlib": gzip.compress(bytes(33 * 2**20))}, 413, None),
    ],
)
def test_a_form_that_cannot_be_used_is_refused(
    web: Service, fields: dict[str, str], files: dict[str, bytes], status: int, pointer: str | None
) -> None:
    document = problem(web.http.post("/v1/verify", files=files, data=fields), status)
    if pointer is not None:
        assert document["errors"][0]["pointer"] == pointer


def test_waiting_ends_at_the_limit(web: Service) -> None:
    answer = web.http.post("/v1/verify?wait=1000", json={"network": web.upload(), "query": ball()})
    assert answer.status_code == 202
    assert answer.elapsed.total_seconds() < 5


@pytest.mark.parametrize(
    ("members", "kind", "pointer", "words"),
    [
        ({"epsilon": -0.1}, "invalid-region", "/query/epsilon", "at least 0, got -0.1"),
        ({"epsilon": NAN}, "invalid-request", "/query/epsilon", "got nan"),
        ({"epsilon": "1e999999999"}, "invalid-request", "/query/epsilon", "8/255"),
        ({"epsilon": "1/0"}, "invalid-request", "/query/epsilon", "8/255"),
        ({"epsilon": True}, "invalid-request", "/query/epsilon", "got True"),
        ({"input": [0.5, NAN, 0.75]}, "invalid-region", "/query/input/1", "finite number, got nan"),
        ({"input": [0.5, [float("inf")], 0.75]}, "invalid-region", "/query/input/1/0", "got inf"),
        ({"input": [0.5, "x", 0.75]}, "invalid-region", "/query/input/1", "got 'x'"),
        ({"input": [0.5, None, 0.75]}, "invalid-region", "/query/input/1", "got None"),
        ({"input": [10**400, 0, 0]}, "invalid-region", "/query/input/0", "finite number"),
        ({"input": [0.5, 0.25]}, "invalid-region", "/query/input", "2 entries, but the network takes 3"),
        ({"input": []}, "invalid-request", "/query/input", "at least 1 item"),
        ({"input": [0.5, 1.25, 0.75]}, "invalid-region", "/query/input", "outside the domain [0, 1]"),
        ({"domain": [1, 0]}, "invalid-region", "/query/domain", "give them in order"),
        ({"lower": 0}, "invalid-region", "/query/lower", "two regions"),
        ({"vnnlib": "(check-sat)"}, "invalid-request", "/query/vnnlib", "input, epsilon, domain, label"),
        ({"domain": [0]}, "invalid-request", "/query/domain/1", "required"),
        ({"label": 2}, "invalid-property", "/query/label", "labels 0 to 1"),
        ({"label": -1}, "invalid-request", "/query/label", "got -1"),
        ({"label": "0"}, "invalid-request", "/query/label", "got '0'"),
        ({"targets": [0]}, "invalid-property", "/query/targets", "label itself"),
        ({"targets": [5]}, "invalid-property", "/query/targets", "target 5 does not exist"),
        ({"targets": []}, "invalid-property", "/query/targets", "no target class"),
        ({"norm": "l7"}, "invalid-request", "/query/norm", "'l2', 'l1' or 'l0', got 'l7'"),
        ({"radii": [1, "x", 2]}, "invalid-region", "/query/radii/1", "finite number, got 'x'"),
        ({"frozen": [3]}, "invalid-region", "/query/frozen", "names input entry 3"),
        (
            {"constraints": [{"coefficients": {"a": 1}, "bound": 0}]},
            "invalid-request",
            "/query/constraints/0/coefficients/a",
            "pattern",
        ),
        ({"top_k": 2}, "invalid-property", "/query/top_k", "between 1 and 1"),
        ({"confidence": "1/0"}, "invalid-request", "/query/confidence", "8/255"),
        ({"output_range": {"output": 0, "upper": 1}}, "invalid-property", "/query/output_range", "2 properties"),
        ({"epsilom": 1}, "invalid-request", "/query/epsilom", "correct its name"),
    ],
)
def test_a_query_that_cannot_be_used_is_refused(
    web: Service, members: dict[str, Any], kind: str, pointer: str, words: str
) -> None:
    document = problem(web.ask(ball(**members)), 422)
    assert document["type"] == f"urn:netproof:problem:{kind}"
    (fault,) = document["errors"]
    assert fault["pointer"] == pointer
    assert words in fault["detail"]
    assert fault["detail"] in document["detail"]


@pytest.mark.parametrize(
    ("members", "pointer", "words"),
    [
        ({"time_limit": 0}, "/time_limit", "greater than 0"),
        ({"time_limit": 1e6}, "/time_limit", "allows 3600"),
        ({"engine": "magic"}, "/engine", "'bab', got 'magic'"),
        ({"backend": "cplex"}, "/backend", "'gurobi', got 'cplex'"),
        ({"priority": 1}, "/priority", "'high'"),
        ({"seed": -1}, "/seed", "got -1"),
        ({"network": "abc"}, "/network", "got 'abc'"),
        ({"network": {"onnx": "AA%A"}}, "/network/onnx", "base64"),
        ({"network": {"path": "/etc/passwd"}}, "/network/onnx", "required"),
    ],
)
def test_other_members_are_checked_too(web: Service, members: dict[str, Any], pointer: str, words: str) -> None:
    document = problem(web.ask(ball(), **members), 422)
    fault = document["errors"][0]
    assert fault["pointer"] == pointer
    assert words in fault["detail"]


def test_everything_that_is_wrong_is_said_at_once(web: Service) -> None:
    document = problem(web.ask(ball(input=[[NAN] * 30], epsilon=-1, label=9)), 422)
    pointers = [fault["pointer"] for fault in document["errors"]]
    assert pointers[:2] == ["/query/input/0/0", "/query/input/0/1"]
    assert len(pointers) == 20, "thirty times the same is not said thirty times"
    assert "and 31 more" in document["detail"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(assert (<= X_0", ""),
        (VNNLIB + "(assert (<= Y_7 0))", "Y_7"),
        ("hello", ""),
    ],
)
def test_a_vnnlib_text_that_cannot_be_read_is_refused(web: Service, text: str, words: str) -> None:
    document = problem(web.ask({"vnnlib": text}), 422)
    assert document["type"] == "urn:netproof:problem:invalid-vnnlib"
    assert document["errors"][0]["pointer"] == "/query/vnnlib"
    assert words in document["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2", b"\xff\xfe", b"{'network': 1}", b"[" * 100_000])
def test_what_is_not_json_is_refused(web: Service, body: bytes) -> None:
    answer = web.http.post("/v1/verify", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 400)["type"] == "urn:netproof:problem:malformed-json"


@pytest.mark.parametrize("body", [[], 1, "x", {}, {"network": None, "query": None}])
def test_json_of_another_form_is_refused(web: Service, body: object) -> None:
    problem(web.http.post("/v1/verify", json=body), 422)


def test_an_unknown_network_is_not_found(web: Service) -> None:
    document = problem(web.ask(ball(), network="0" * 64), 404)
    assert "network" in document["detail"]


def test_an_inline_network_that_cannot_be_read_is_refused(web: Service) -> None:
    onnx = base64.b64encode(NETWORK[:50]).decode()
    assert problem(web.ask(ball(), network={"onnx": onnx}), 422)["type"].endswith("unreadable-network")


def test_another_media_type_is_refused(web: Service) -> None:
    answer = web.http.post("/v1/verify", content=b"{}", headers={"Content-Type": "text/plain"})
    assert "application/json" in problem(answer, 415)["detail"]


def test_a_body_beyond_the_limit_is_refused_with_a_way_out(web: Service) -> None:
    body = b" " * (32 * 2**20 + 1)
    answer = web.http.post("/v1/verify", content=body, headers={"Content-Type": "application/json"})
    assert "POST /v1/networks" in problem(answer, 413)["detail"]


class TestIdempotencyKey:
    """The same key means the same job."""

    def ask(self, web: Service, key: str, **members: Any) -> Any:
        body = {"network": web.upload(), "query": ball(**members)}
        return web.http.post("/v1/verify", json=body, headers={"Idempotency-Key": key})

    def test_a_repeated_request_gets_the_first_job(self, web: Service) -> None:
        first, second = self.ask(web, "again"), self.ask(web, "again")
        assert first.json()["id"] == second.json()["id"]
        assert self.ask(web, "another").json()["id"] != first.json()["id"]

    def test_another_request_under_the_key_is_refused(self, web: Service) -> None:
        self.ask(web, "reused")
        document = problem(self.ask(web, "reused", epsilon=0.002), 422)
        assert document["type"] == "urn:netproof:problem:idempotency-key-reused"

    def test_requests_in_flight_together_make_one_job(self, web: Service) -> None:
        web.upload()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ask(web, "together"), range(4)))
        assert len({answer.json()["id"] for answer in answers}) == 1

    def test_without_a_key_each_request_makes_a_job(self, web: Service) -> None:
        assert web.ask(ball()).json()["id"] != web.ask(ball()).json()["id"]


def test_a_lost_queue_server_loses_no_job(tmp_path: Path) -> None:
    """The job is kept and the reaper brings it to the queue later."""
    service = Service(tmp_path)
    try:
        network = service.upload(dense_model(3))
        service.server.stop()
        answer = service.ask(ball(), network=network)
        assert answer.status_code == 202, answer.text
        service.server.start()
        job = service.ledger.job(answer.json()["id"])
        assert job.state is JobState.QUEUED
        assert service.dispatcher.missing([job]) == [job]
    finally:
        service.close()
