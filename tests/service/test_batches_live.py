"""Batches over HTTP with real workers: the examples' networks, every form of answer, and nothing decided twice."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import netproof
from netproof.job import Event, EventParser
from networks.dataset import Dataset
from tests.service.serving import Service, problem

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORK = (EXAMPLES / "digits_plain.onnx").read_bytes()
DATA = EXAMPLES / "digits.npz"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker, which may be killed."""
    service = Service(tmp_path_factory.mktemp("batches"), lease_seconds=2.0)
    service.ready_worker()
    yield service
    service.close()


def submit(service: Service, **members: Any) -> dict[str, Any]:
    answer = post(service, **members)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/batches/{answer.json()['id']}"
    return dict(answer.json())


def post(service: Service, **members: Any) -> Any:
    if "dataset" not in members:
        answer = service.http.post("/v1/datasets", content=DATA.read_bytes())
        assert answer.is_success, answer.text
        members["dataset"] = answer.json()["sha256"]
    query = {"epsilon": "0.05", "domain": [0, 1]} | members.pop("query", {})
    body = {"network": service.upload(NETWORK), "query": query, "time_limit": 20} | members
    return service.http.post("/v1/batches", json=body)


def ended(service: Service, batch: dict[str, Any], seconds: float = 90) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        service.reaper.sweep()
        found = service.http.get(f"/v1/batches/{batch['id']}", params={"wait": 1}).json()
        if found["state"] in {"finished", "cancelled", "exhausted"}:
            return dict(found)
        assert time.monotonic() < end, (found, (service.settings.data_dir / "worker.log").read_text())


def items(service: Service, batch: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """All items, by following the links from page to page."""
    found: list[dict[str, Any]] = []
    url, asked = f"/v1/batches/{batch['id']}/items", {"limit": 7} | parameters
    while True:
        answer = service.http.get(url, params=asked or None)
        assert answer.is_success, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            assert "Link" not in answer.headers
            return found
        url, asked = answer.links["next"]["url"], {}


def events_of(answer: httpx.Response) -> list[Event]:
    parser = EventParser()
    return [event for line in answer.iter_lines() if (event := parser.feed(line)) is not None]


def test_a_batch_gives_the_verdicts_of_an_audit_in_every_form(live: Service) -> None:
    batch = submit(live, selection={"end": 20}, reuse=False, name="first twenty")
    done = ended(live, batch)
    dataset = Dataset.read(DATA)
    plain = netproof.load(EXAMPLES / "digits_plain.onnx")
    asked = {"epsilon": "0.05", "domain": (0, 1), "threads": 1}
    verdicts = {i: netproof.verify(plain, input=dataset.input(i), label=dataset.label(i), **asked) for i in range(20)}
    expected = {i: str(verdict.outcome) for i, verdict in verdicts.items()}
    assert (done["state"], done["name"], done["left"], done["counts"]["done"]) == ("finished", "first twenty", None, 20)
    share = list(expected.values()).count("robust") / 20
    assert done["robust_accuracy"] == pytest.approx([share, share])
    assert done["curve"][0]["undecided"] == 0
    assert {item["index"]: item["verdict"] for item in items(live, batch)} == expected

    rows = list(csv.DictReader(io.StringIO(live.http.get(done["links"]["csv"]).text)))
    assert {int(row["index"]): row["verdict"] for row in rows} == expected
    lines = [json.loads(line) for line in live.http.get(done["links"]["jsonl"]).text.splitlines()]
    assert {line["index"]: line["verdict"] for line in lines} == expected
    assert verdicts[0].to_json().keys() | {"index", "label", "limit"} <= lines[0].keys(), (
        "a record of an audit, and more"
    )
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(io.BytesIO(live.http.get(done["links"]["parquet"]).content))
    assert dict(zip(*table.select(["index", "verdict"]).to_pydict().values(), strict=True)) == expected

    broken = [index for index, outcome in expected.items() if outcome == "counterexample"]
    chosen = items(live, batch, verdict="counterexample")
    assert [item["index"] for item in chosen] == broken
    whole = live.http.get(chosen[0]["links"]["self"]).json()["result"]
    point = np.array(whole["counterexample"]["input"], np.float32)
    assert np.abs(point - dataset.input(broken[0])).max() <= 0.05 + 1e-6
    sent = live.http.get(chosen[0]["links"]["counterexample"], params={"format": "npy"})
    assert np.array_equal(np.load(io.BytesIO(sent.content)).reshape(-1), point)
    robust = items(live, batch, verdict="robust")[0]["links"]["self"]
    assert problem(live.http.get(f"{robust}/counterexample"), 404)["type"].endswith("no-counterexample")
    assert problem(live.http.get(f"{robust}/certificate"), 404)["type"].endswith("no-certificate")
    assert [item["seconds"] for item in items(live, batch, sort="seconds")] == sorted(
        (item["seconds"] for item in items(live, batch)), reverse=True
    )
    assert {item["index"] for item in items(live, batch, label=3)} == {i for i in range(20) if dataset.label(i) == 3}


def test_a_curve_over_epsilons_falls_and_says_what_was_reused(live: Service) -> None:
    batch = submit(
        live, query={"epsilon": ["0.2", 0.01, "1/20", "0.1"]}, selection={"indices": [10, 3, 5]}, reuse=False
    )
    done = ended(live, batch)
    assert done["request"]["epsilon"] == ["0.01", "1/20", "0.1", "0.2"]
    assert done["robust_accuracy"] is None
    lows = [point["robust_accuracy"][0] for point in done["curve"]]
    assert lows == sorted(lows, reverse=True)
    assert done["counts"]["cached"] > 0
    for item in items(live, batch):
        source = item["cached_from"]
        if source is not None:
            nearer = source["epsilon"] == "0.05" and item["epsilon"] != "1/20"
            other = live.http.get(f"/v1/batches/{batch['id']}/items/{source['item']}").json()
            assert other["index"] == item["index"]
            assert other["verdict"] == item["verdict"]
            assert nearer or source["epsilon"] in {"0.01", "0.05", "0.1", "0.2"}
    again = ended(live, submit(live, query={"epsilon": ["0.02", "0.3"]}, selection={"indices": [10, 3, 5]}))
    assert again["counts"]["cached"] >= 3, "answers of the first batch serve the second"


def test_killed_cancelled_and_resumed_nothing_finished_is_decided_again(live: Service) -> None:
    batch = submit(live, selection={"end": 150}, query={"epsilon": "0.03"}, reuse=False)
    before = wait_for(live, batch, 20)
    live.workers[-1].kill()
    live.workers[-1].wait()
    live.start_worker()
    between = wait_for(live, batch, 60)
    assert len(between) < 150, "it was not finished yet, so this test tests something"
    cancelled = live.http.post(f"/v1/batches/{batch['id']}/cancel")
    assert cancelled.status_code == 202
    stopped = ended(live, batch)
    assert stopped["state"] == "cancelled"
    after = finished(live, batch)
    assert live.http.post(f"/v1/batches/{batch['id']}/resume").status_code == 202
    done = ended(live, batch)
    last = finished(live, batch)
    assert (done["state"], len(last)) == ("finished", 150)
    for seen in (before, between, after):
        assert {number: last[number] for number in seen} == seen


def wait_for(service: Service, batch: dict[str, Any], number: int) -> dict[int, Any]:
    end = time.monotonic() + 60
    while len(found := finished(service, batch)) < number:
        service.reaper.sweep()
        assert time.monotonic() < end, (service.settings.data_dir / "worker.log").read_text()
        time.sleep(0.02)
    return found


def finished(service: Service, batch: dict[str, Any]) -> dict[int, Any]:
    return {item["number"]: item for item in items(service, batch, state="done", limit=1000)}


def test_robust_items_bring_certificates_that_check(live: Service) -> None:
    robust = live.upload((EXAMPLES / "digits_robust.onnx").read_bytes())
    batch = submit(live, network=robust, query={"epsilon": ["0.02", "0.03"]}, selection={"end": 4}, certificate=True)
    done = ended(live, batch)
    certified = [item for item in items(live, batch) if item["trust"] == "certified"]
    assert done["counts"]["certified"] == len(certified) > 0
    for item in certified:
        proof = live.http.get(item["links"]["certificate"]).content
        assert netproof.check(proof, EXAMPLES / "digits_robust.onnx").proven


def test_other_kinds_of_questions_are_asked_about_many_inputs(live: Service) -> None:
    nearest = {"kind": "distance", "epsilon": None, "norm": "linf", "tolerance": "0.02"}
    done = ended(live, submit(live, query=nearest, selection={"indices": [10, 3]}))
    for item in items(live, done):
        low, high = live.http.get(item["links"]["self"]).json()["result"]["distance"]
        assert 0 <= low <= high <= 1
        assert high - low <= 0.02 + 1e-9
    rows = list(csv.DictReader(io.StringIO(live.http.get(done["links"]["csv"]).text)))
    assert all(float(row["distance_lower"]) <= float(row["distance_upper"]) for row in rows)
    same = {"equivalent_to": {"network": live.upload(NETWORK), "within": "0.001"}, "epsilon": "0.01"}
    done = ended(live, submit(live, query=same, selection={"end": 2}))
    assert done["counts"]["robust"] == 2, "a network is equivalent to itself"


def test_a_follower_sees_progress_and_the_end(live: Service) -> None:
    batch = submit(live, selection={"end": 40}, query={"epsilon": "0.04"}, reuse=False)
    with live.http.stream("GET", f"/v1/batches/{batch['id']}/events") as answer:
        events = events_of(answer)
    assert {event.name for event in events[:-1]} <= {"progress"}
    assert events[-1].name == "state"
    assert events[-1].data["state"] == "finished"
    assert len({event.id for event in events}) > 1
    headers = {"Last-Event-ID": events[-1].id}
    with live.http.stream("GET", f"/v1/batches/{batch['id']}/events", headers=headers) as answer:
        assert [event.name for event in events_of(answer)] == ["state"]


def test_inputs_may_come_along_and_an_etag_spares_the_answer(live: Service) -> None:
    dataset = Dataset.read(DATA)
    inline = {"inputs": [dataset.input(i).tolist() for i in (10, 11)], "labels": [dataset.label(i) for i in (10, 11)]}
    done = ended(live, submit(live, dataset=inline, engine="bab", reuse=False))
    assert done["counts"]["done"] == 2
    assert {item["decided_by"] for item in items(live, done)} & {"bab", "replay"}
    first = live.http.get(done["links"]["self"])
    same = live.http.get(done["links"]["self"], headers={"If-None-Match": first.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    jobs = live.http.get(done["links"]["jobs"]).json()["jobs"]
    assert {job["batch"] for job in jobs} == {done["id"]}
    assert not {job["id"] for job in jobs} & {job["id"] for job in live.http.get("/v1/jobs").json()["jobs"]}


def test_an_input_that_cannot_be_asked_about_fails_alone(live: Service) -> None:
    dataset = {"inputs": [[0.5] * 64, [1.5] * 64], "labels": [1, 1]}
    done = ended(live, submit(live, dataset=dataset, query={"epsilon": "0.01", "domain": [0, 1]}))
    first, second = items(live, done)
    assert (done["state"], first["state"], second["state"]) == ("finished", "done", "failed")
    assert second["error"]["type"] == "urn:netproof:problem:invalid-region"
    retried = live.http.post(f"/v1/batches/{done['id']}/retry", json={"time_limit": 5})
    assert retried.status_code == 202
    assert retried.json()["request"]["time_limit"] == 5
    assert ended(live, done)["counts"]["failed"] == 1


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"query": {"epsilon": []}}, "/query/epsilon", "expected 1 to 32"),
    ({"query": {"epsilon": ["0.1", "x"]}}, "/query/epsilon/1", "'x'"),
    ({"query": {"epsilon": -1}}, "/query/epsilon", "-1"),
    ({"query": {"label": 3}}, "/query/label", "comes from the data set"),
    ({"query": {"misspelt": 1}}, "/query/misspelt", "correct its name"),
    ({"query": {"domain": [1, 0]}}, "/query/domain", "above"),
    ({"selection": {"begin": 5, "end": 5}}, "/selection", "no input is chosen"),
    ({"selection": {"indices": [1, 1]}}, "/selection/indices", "twice"),
    ({"selection": {"indices": [10**6]}}, "/selection/indices", "there is no input 1000000"),
    ({"dataset": {"inputs": [[0.0]], "labels": [1]}}, "/dataset", "expects 64"),
    ({"dataset": {"inputs": [[0.0] * 64], "labels": [12]}}, "/dataset", "label 12"),
    ({"dataset": {"inputs": [[0.0] * 64], "labels": [1, 2]}}, "/dataset/labels", "1 inputs but 2 labels"),
    ({"time_limit": 10**9}, "/time_limit", "this service allows"),
    ({"total_limit": 0}, "/total_limit", "greater than 0"),
    ({"engin": "bab"}, "/engin", ""),
]


@pytest.mark.parametrize(("members", "pointer", "words"), REFUSED, ids=[str(case[0])[:40] for case in REFUSED])
def test_what_cannot_be_asked_is_refused_at_its_place(
    live: Service, members: dict[str, Any], pointer: str, words: str
) -> None:
    document = problem(post(live, **members), 422)
    assert document["errors"][0]["pointer"] == pointer
    assert words in document["detail"]


def test_cursors_and_identifiers_of_strangers_are_refused(live: Service) -> None:
    batch = ended(live, submit(live, selection={"end": 2}))
    problem(live.http.get(f"/v1/batches/{batch['id']}/items", params={"cursor": "e30"}), 422)
    problem(live.http.get(f"/v1/batches/{batch['id']}/items", params={"verdict": "robust", "state": "open"}), 422)
    problem(live.http.get(f"/v1/batches/{batch['id']}/items/77"), 404)
    problem(live.http.get(f"/v1/batches/{'0' * 26}"), 404)
    problem(live.http.get("/v1/batches/nonsense"), 404)
    problem(live.http.post(f"/v1/batches/{batch['id']}/cancel"), 409)
    problem(live.http.post(f"/v1/batches/{batch['id']}/resume"), 409)
    problem(live.http.post(f"/v1/batches/{batch['id']}/resume", content=b"{"), 400)
    problem(live.http.post(f"/v1/batches/{batch['id']}/retry", json={"time_limit": "long"}), 422)
    problem(live.http.post("/v1/batches", content=b"{", headers={"Content-Type": "application/json"}), 400)
    problem(live.http.post("/v1/batches", content=b"x"), 415)


def test_an_idempotency_key_gives_the_same_batch(live: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"network": live.upload(NETWORK), "query": {"epsilon": 0.01}, "selection": {"end": 2}}
    body["dataset"] = live.http.post("/v1/datasets", content=DATA.read_bytes()).json()["sha256"]
    first, again = (live.http.post("/v1/batches", json=body, headers=headers).json() for _ in range(2))
    assert first["id"] == again["id"]
    problem(live.http.post("/v1/batches", json=body | {"seed": 1}, headers=headers), 422)
