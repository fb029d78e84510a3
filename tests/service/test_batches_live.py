"""Batches over HTTP with a real worker: the examples' networks, every form of answer, and nothing decided twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import netproof
from tests.service.serving import Service

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORK = (EXAMPLES / "digits_plain.onnx").read_bytes()


def upload(service: Service, path: Path = EXAMPLES / "digits.npz") -> str:
    answer = service.http.post("/v1/datasets", content=path.read_bytes(), params={"name": path.name})
    assert answer.is_success, answer.text
    return str(answer.json()["sha256"])


def submit(service: Service, **members: Any) -> dict[str, Any]:
    query = {"epsilon": "0.05", "domain": [0, 1]} | members.pop("query", {})
    body = {"network": service.upload(NETWORK), "dataset": upload(service), "query": query, "time_limit": 20, **members}
    answer = service.http.post("/v1/batches", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/batches/{answer.json()['id']}"
    return dict(answer.json())


def ended(service: Service, batch: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
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
        answer = service.http.get(url, params=asked)
        assert answer.is_success, answer.text
        found += answer.json()["items"]
        if answer.json()["next_cursor"] is None:
            assert "Link" not in answer.headers
            return found
        url, asked = answer.links["next"]["url"], {}


def test_a_batch_gives_the_verdicts_of_an_audit_and_its_interval_closes(live: Service) -> None:
    batch = submit(live, selection={"end": 20}, reuse=False)
    assert batch["counts"]["robust"] + batch["counts"]["counterexample"] <= 20
    done = ended(live, batch)
    audit = netproof.audit(
        EXAMPLES / "digits_plain.onnx", EXAMPLES / "digits.npz", "0.05", domain=(0, 1), indices=range(20), workers=1
    )
    assert done["state"] == "finished"
    low, high = done["robust_accuracy"]
    assert (low, high) == pytest.approx(audit.tally.robust_accuracy)
    assert low == pytest.approx(high)
    assert done["left"] is None
    found = {item["index"]: item["verdict"] for item in items(live, batch)}
    assert found == {record["index"]: record["verdict"] for record in audit.records}
