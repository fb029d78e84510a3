"""One trace from the request to the rungs of the ladder, sent to a collector of the test's own; nothing when off."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service import tracing
from service.job import Surroundings, run_job
from service.states import JobState
from service.worker import preload
from tests.random_networks import dense_model
from tests.service.serving import Service, ball

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
#: Other tests record answers of their own about the usual network.
ANOTHER = dense_model(30)


class Collector(HTTPServer):
    """Takes spans by OTLP over HTTP and keeps them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, trace: str) -> dict[str, Any]:
        """The spans of a trace by name."""
        return {span.name: span for span in self.spans if span.trace_id.hex() == trace}


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in request.resource_spans:
            self.server.services |= {
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
    yield server
    tracing.stop_tracing()
    server.shutdown()
    thread.join()
    server.server_close()


def facts(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_trace_leads_from_the_request_to_the_rungs(web: Service, collector: Collector) -> None:
    preload()
    network = web.upload(ANOTHER)
    tracing.start_tracing()
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    body = {"network": network, "query": ball(epsilon=0.0031), "reuse": False}
    posed = web.http.post("/v1/verify", json=body, headers=headers).json()
    web.http.get("/nowhere")
    tracing.stop_tracing()
    run_job(posed["id"], Surroundings(web.settings, "host-1-a"))
    job = web.ledger.job(posed["id"])
    assert job.state is JobState.SUCCEEDED
    assert job.verdict is not None

    spans = collector.of(TRACE)
    stages = [stage["name"] for stage in job.verdict["stages"]]
    chain = ["POST /v1/verify", "queue highs", "worker host-1-a"]
    assert set(spans) == {*chain, *stages}
    assert spans[chain[0]].parent_span_id.hex() == CALLER
    for above, below in itertools.pairwise(chain):
        assert spans[below].parent_span_id == spans[above].span_id, below
    for stage in stages:
        rung = spans[stage]
        assert rung.parent_span_id == spans[chain[-1]].span_id
        assert spans[chain[-1]].start_time_unix_nano <= rung.start_time_unix_nano <= rung.end_time_unix_nano
        assert rung.end_time_unix_nano <= spans[chain[-1]].end_time_unix_nano
    assert spans["queue highs"].end_time_unix_nano == spans["worker host-1-a"].start_time_unix_nano
    assert facts(spans[chain[0]])["http.response.status_code"] == 202
    worked = facts(spans[chain[-1]])
    assert (worked["netproof.job"], worked["netproof.attempt"]) == (job.id, 1)
    assert worked["netproof.verdict"] == job.verdict["verdict"]
    assert collector.services == {"netproof"}
    (lost,) = [span for span in collector.spans if span.name == "GET other"]
    assert lost.trace_id.hex() != TRACE


def test_a_trace_that_nobody_keeps_is_not_sent(web: Service, collector: Collector) -> None:
    tracing.start_tracing()
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
    posed = web.http.post(
        "/v1/verify",
        json={"network": web.upload(ANOTHER), "query": ball(epsilon=0.0032), "reuse": False},
        headers=headers,
    ).json()
    tracing.stop_tracing()
    run_job(posed["id"], Surroundings(web.settings, "here"))
    assert web.ledger.job(posed["id"]).state is JobState.SUCCEEDED
    assert collector.of(TRACE) == {}


def test_a_collector_that_is_away_costs_the_trace_alone(web: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    posed = web.ask(ball(epsilon=0.0033), network=web.upload(ANOTHER), reuse=False).json()
    run_job(posed["id"], Surroundings(web.settings, "here"))
    assert web.ledger.job(posed["id"]).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
    ],
)
def test_the_standard_variables_decide(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.wanted() is expected


def test_nothing_of_it_is_imported_when_off() -> None:
    code = (
        "import sys, service.app, service.web, service.job, service.worker, service.reaper;"
        "service.tracing.start_tracing(); assert service.tracing.begin('GET', None) is None;"
        # redis imports the API and metrics by itself where they are installed
        "ours = ('opentelemetry.sdk.trace', 'opentelemetry.exporter');"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
