"""OpenTelemetry traces, from a request through the queue to the rungs that a job climbed; opt-in and else free.

They are on where the standard variables name somewhere to send them (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or ``OTEL_TRACES_EXPORTER``) and ``pip install 'netproof[otel]'`` has been run;
otherwise nothing of OpenTelemetry is imported. A request's span is the web process's::

    POST /v1/verify
    └─ queue highs          from queued to started
       └─ worker host-12-ab  the attempt, with what it came to
          ├─ linear         one span for each stage, one after the other as they ran
          └─ bab

Those of a job are sent by its process when it has ended, in one go and without a thread, which no fork survives. A job
that is killed has none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.models import JobRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

__all__ = ["Traced", "begin", "start_tracing", "stop_tracing", "trace_job", "wanted"]

logger = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_PATIENCE_SECONDS = 3
_NAME = "netproof"

#: The web process's; a job's process makes one of its own.
_provider: TracerProvider | None = None


def wanted() -> bool:
    """Whether the standard variables ask for traces."""
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").lower()
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or named == "none":
        return False
    return bool(named) or any(os.environ.get(name) for name in _ENDPOINTS)


def start_tracing() -> None:
    """Trace this process's requests from now on, if traces are wanted."""
    global _provider  # noqa: PLW0603 - one for the process, as it has one set of variables
    if not wanted():
        return
    try:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        _provider = _make()
        _provider.add_span_processor(BatchSpanProcessor(_exporter()))
    except ImportError as error:
        logger.warning("no traces: %s; run pip install 'netproof[otel]', or unset the OTEL_ variables", error)
        _provider = None


def stop_tracing() -> None:
    """Send what is left, and trace no more."""
    global _provider  # noqa: PLW0603
    if _provider is not None:
        _provider.shutdown()
        _provider = None


@dataclass(frozen=True, slots=True)
class Traced:
    """A request's span. ``parent`` is what others go on from, as a ``traceparent``."""

    span: Span
    parent: str

    def end(self, route: str, status: int) -> None:
        """End it, knowing which route answered with which status."""
        from opentelemetry.trace import StatusCode

        method = self.span.attributes["http.request.method"]  # type: ignore[attr-defined]
        self.span.update_name(f"{method} {route}")
        self.span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status == 0 or status >= 500:
            self.span.set_status(StatusCode.ERROR)
        self.span.end()


def begin(method: str, traceparent: str | None) -> Traced | None:
    """The span of a request that comes with a ``traceparent`` header, or not; None where nothing is traced."""
    if _provider is None:
        return None
    from opentelemetry.trace import SpanKind

    span = _provider.get_tracer(_NAME).start_span(
        method, _context(traceparent), SpanKind.SERVER, {"http.request.method": method}
    )
    if not span.is_recording():  # the sampler left it out, and those who go on from it do so, too
        return None
    found = span.get_span_context()
    return Traced(span, f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}")


def trace_job(job: JobRecord) -> None:
    """Send the spans of a job's last attempt; where nobody takes them in time, they are lost."""
    if not wanted():
        return
    try:
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        kept = InMemorySpanExporter()
        provider = _make()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        _record(job, provider)
        spans = kept.get_finished_spans()
        if spans:
            exporter = _exporter()
            exporter.export(spans)
            exporter.shutdown()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with a trace, the job has its verdict
        logger.warning("no trace of job %s: %s", job.id, error)


def _record(job: JobRecord, provider: TracerProvider) -> None:
    from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

    tracer = provider.get_tracer(_NAME)
    attempt = job.attempts[-1]
    about: dict[str, Any] = {
        "netproof.job": job.id,
        "netproof.attempt": attempt.number,
        "netproof.network": job.network,
    }
    parent = _context((job.origin or {}).get("traceparent"))
    begun, ended = _nanoseconds(attempt.started_at), _nanoseconds(attempt.ended_at or attempt.started_at)
    queued = min(_nanoseconds(job.queued_at), begun)  # a job that went back is queued again by now
    waited = tracer.start_span(f"queue {job.queue}", parent, SpanKind.CONSUMER, about, start_time=queued)
    waited.end(begun)
    verdict = job.verdict or {}
    members = {"worker": attempt.worker, "state": str(job.state), "batch": job.batch, "verdict": verdict.get("verdict")}
    members |= {"trust": verdict.get("trust"), "decided_by": verdict.get("decided_by"), "reason": attempt.reason}
    facts: dict[str, Any] = {f"netproof.{name}": value for name, value in members.items() if value}
    inside = set_span_in_context(waited)
    worked = tracer.start_span(f"worker {attempt.worker}", inside, SpanKind.INTERNAL, about | facts, start_time=begun)
    if job.error is not None:
        worked.set_status(StatusCode.ERROR, str(job.error.get("code")))
    inside = set_span_in_context(worked)
    stages = verdict.get("stages") or []
    # the network was read, and libraries were loaded, before the first of them
    moment = max(begun, ended - sum(_span_of(stage) for stage in stages))
    for stage in stages:
        rung = tracer.start_span(str(stage["name"]), inside, attributes=_attributes(stage), start_time=moment)
        moment += _span_of(stage)
        rung.end(moment)
    worked.end(max(ended, moment))


def _span_of(stage: Mapping[str, Any]) -> int:
    return round(float(stage.get("seconds", 0.0)) * 1e9)


def _attributes(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage says of itself in single words and numbers."""
    return {
        f"netproof.{name}": value
        for name, value in stage.items()
        if isinstance(value, str | int | float) and name not in {"name", "seconds"}
    }


def _context(traceparent: str | None) -> Context:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier)


def _make() -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return TracerProvider(resource=Resource.create({} if named else {"service.name": _NAME}), shutdown_on_exit=False)


def _exporter() -> SpanExporter:
    if os.environ.get("OTEL_TRACES_EXPORTER", "").lower() == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # by default a job's process would hold its worker for 10 s where nobody listens
    stated = any(os.environ.get(name) for name in _TIMEOUTS)
    return OTLPSpanExporter() if stated else OTLPSpanExporter(timeout=_PATIENCE_SECONDS)


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e9)
