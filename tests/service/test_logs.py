"""Every line says what it is about, and none says what nobody but the asker should know."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.context import at_work, bound, current, origin, trace_of, traceparent
from service.database import open_engine
from service.logs import start_logging
from tests.service.serving import Service, ball

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@contextmanager
def logged(form: Any) -> Iterator[io.StringIO]:
    """What this process logs meanwhile, as ``start_logging`` writes it."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    start_logging("test", form)
    out = io.StringIO()
    root.handlers[0].setStream(out)  # type: ignore[attr-defined]
    try:
        yield out
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_lines_for_machines_say_what_they_are_about() -> None:
    with logged("json") as out:
        with at_work("01J", 2, {"request": "r1", "traceparent": PARENT, "other": "x"}):
            logging.getLogger("a.b").warning("two\nlines %d", 1)
        logging.getLogger("a.b").info("free")
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert {key: first[key] for key in ("level", "process", "logger", "message")} == {
        "level": "warning",
        "process": "test",
        "logger": "a.b",
        "message": "two\nlines 1",
    }
    assert (first["job"], first["attempt"], first["request"], first["trace"]) == ("01J", "2", "r1", TRACE)
    assert "other" not in first
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", first["time"])
    assert not {"job", "attempt", "request", "trace", "exception"} & second.keys()


def test_exceptions_keep_one_line_for_machines() -> None:
    with logged("json") as out:
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logging.getLogger("a").exception("it failed")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["exception"].endswith("RuntimeError: broken")


def test_lines_for_people_are_one_line_whatever_they_quote() -> None:
    with logged("text") as out, bound(request="r1"):
        logging.getLogger("a").info("name %s", "x\n2026-01-01 ERROR forged\r")
    (line,) = out.getvalue().splitlines()
    assert line.endswith("a: name x\\n2026-01-01 ERROR forged\\r request=r1")


def test_context_is_bound_for_a_block() -> None:
    assert (current(), origin()) == ({}, None)
    with bound(request="r", traceparent=PARENT, job=None), bound(request="inner"):
        assert current() == {"trace": TRACE, "request": "inner"}
        assert origin() == {"request": "inner", "traceparent": PARENT}
    assert (current(), origin()) == ({}, None)


@pytest.mark.parametrize(
    "given",
    [None, "", "00-1-2-3", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", PARENT.upper()],
)
def test_a_trace_begins_where_none_is_given(given: str | None) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", traceparent(given))
    assert trace_of(traceparent(given)) != trace_of(traceparent(given))


def lines_of(out: io.StringIO, request: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, out.getvalue().splitlines()) if line.get("request") == request]


def test_a_request_has_one_line_and_its_job_knows_it(web: Service) -> None:
    network = web.upload()
    with logged("json") as out:
        headers = {"X-Request-ID": "ci-7", "traceparent": PARENT}
        body = {"network": network, "query": ball(epsilon=0.07), "reuse": False}
        job = web.http.post("/v1/verify", json=body, headers=headers).json()["id"]
        web.http.get(f"/v1/jobs/{job}?secret=swordfish", headers={"X-Request-ID": "ci-8"})
    assert web.ledger.job(job).origin == {"request": "ci-7", "traceparent": PARENT}
    (line,) = lines_of(out, "ci-7")
    assert (line["method"], line["route"], line["status"], line["trace"]) == ("POST", "/v1/verify", 202, TRACE)
    assert line["milliseconds"] > 0
    (line,) = lines_of(out, "ci-8")
    assert (line["path"], line["route"], line["job"]) == (f"/v1/jobs/{job}", "/v1/jobs/{job_id}", job)


def test_worker_and_child_say_whose_job_they_work_on(live: Service) -> None:
    headers = {"X-Request-ID": "ci-9", "traceparent": PARENT}
    body = {"network": live.upload(), "query": ball(epsilon=0.0017), "reuse": False}
    job = live.http.post("/v1/verify?wait=30", json=body, headers=headers).json()
    assert job["state"] == "succeeded"
    lines = [json.loads(line) for line in (live.settings.data_dir / "worker.log").read_text().splitlines()]
    about = [line for line in lines if line.get("job") == job["id"]]
    assert any("attempt 1 starts" in line["message"] for line in about)
    assert {(line["process"], line["attempt"], line["request"], line["trace"]) for line in about} == {
        ("worker", "1", "ci-9", TRACE)
    }


def test_nothing_secret_is_logged(web: Service) -> None:
    network = web.upload()
    with logged("json") as out:
        headers = {"Authorization": "Bearer swordfish", "X-API-Key": "swordfish", "Cookie": "session=swordfish"}
        web.http.post("/v1/verify?key=swordfish", json={"network": network, "swordfish": 1}, headers=headers)
        web.http.post("/v1/verify", content=b"swordfish", headers={"Content-Type": "application/json", **headers})
        web.http.post("/v1/networks?name=swordfish", content=b"swordfish", headers=headers)
    lines = [line for line in out.getvalue().splitlines() if json.loads(line)["logger"] != "httpx"]  # the test's own
    assert len(lines) >= 3
    assert not any("swordfish" in line for line in lines)


def test_errors_of_the_database_do_not_quote_what_was_written(tmp_path: Any) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(OperationalError) as raised, engine.begin() as connection:
        connection.execute(text("INSERT INTO absent VALUES (:value)"), {"value": "swordfish"})
    assert "no such table" in str(raised.value)
    assert "swordfish" not in str(raised.value)
    engine.dispose()
