"""What the page of a job shows, from the ledger's record and the files beside it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from networks.exact import exact
from service.dashboard.charts import Chart, Point, convergence, layers, stages
from service.dashboard.claims import claim_of, property_of, reason_of, region_of, trust_of
from service.dashboard.commands import KEY
from service.dashboard.evidence_view import Shown, evidence, perturbation
from service.dashboard.wording import number
from service.dataset_rows import read_rows
from service.errors import NotFoundError
from service.models import JobRecord, NetworkRecord
from service.parts import Parts
from service.schemas import JobDocument
from service.states import JobState
from service.subtrees import Shared
from service.views import job_document

__all__ = ["JobView", "answer_charts", "center_of", "domain_of", "evidence_of", "job_view"]

#: Members of a stage that are not facts of it.
_STAGE = ("name", "seconds")


@dataclass(frozen=True, slots=True)
class JobView:
    """Everything that the templates of a job print.

    Attributes:
        job: as the API shows it.
        network: that it is about.
        region, property: the question in sentences.
        claim, trust, reason: the answer in sentences, "" where there is none.
        evidence: what was found, as pictures and numbers.
        charts: bounds over time, time by stage, unstable ReLUs by layer; those that there is something to say about.
        limit: seconds that it may take.
        share: how much of the time limit is spent, between 0 and 1.
        commands: how to ask the same elsewhere: what for, and the text.
        part_of: the job that it is a part of, None for a question of its own.
        shared: what was given away of it, None where nothing was; ``helpers`` says it in a sentence.
        again: whether the same can be asked once more as it stands.
        ended: whether nothing happens to it any more.
    """

    job: JobDocument
    network: NetworkRecord
    region: str
    property: str
    claim: str
    trust: str
    reason: str
    evidence: Shown
    charts: Sequence[Chart]
    limit: float
    share: float
    commands: Sequence[tuple[str, str]]
    part_of: JobDocument | None
    shared: Shared | None
    helpers: str
    again: bool
    ended: bool


def job_view(record: JobRecord, parts: Parts, points: Sequence[Point], site: str) -> JobView:
    """What there is to show of a job.

    Args:
        record: the job.
        parts: ledger and artifacts.
        points: how its bounds came together, as far as its events know.
        site: the URL that the service is reached under.
    """
    network = parts.ledger.network(record.network)
    query, verdict = record.request["query"], record.verdict
    job = job_document(record)
    progress = record.progress or {}
    spent = float((verdict or progress).get("seconds") or 0.0)
    measures = "distance" if query.get("kind") == "distance" else "margin"
    kept = [Point(*each) for each in (verdict or {}).get("history", ())] or list(points)
    if kept and verdict is not None:
        kept.append(Point(max(spent, kept[-1].at), *verdict[measures]))
    charts = [convergence(kept, name="bounds", measures=measures, end=spent)] if kept else []
    if verdict is not None and record.parent is None:
        charts += answer_charts(verdict)
    shared = parts.ledger.subtrees.shared(record.id)
    stated = query if "vnnlib" not in query else {**query, "omitted": ["vnnlib"]}
    return JobView(
        job=job,
        network=network,
        region=region_of(stated),
        property=property_of(stated),
        claim=claim_of(verdict) if verdict is not None else "",
        trust=trust_of(verdict) if verdict is not None else "",
        reason=reason_of(verdict) if verdict is not None else "",
        evidence=evidence_of(query, verdict or {}, network, parts),
        charts=charts,
        limit=record.time_limit,
        share=min(1.0, spent / record.time_limit),
        commands=_commands(record, network, site, "curl -s" + KEY * parts.settings.access_on),
        part_of=None if record.parent is None else job_document(parts.ledger.job(record.parent), brief=True),
        shared=shared,
        helpers="" if shared is None else _helpers(shared, ended=record.terminal),
        again=record.batch is None and record.parent is None and record.terminal,
        ended=record.terminal,
    )


def _helpers(shared: Shared, *, ended: bool) -> str:
    """Who searches along, or has."""
    given = _many(sum(shared.parts.values()), "part")
    took = f"{_many(shared.workers, 'other worker')} took parts of it"
    if ended:
        return f"{took}; {given} in all." if shared.workers else f"{given} waited for a worker, but none took any."
    at_work = shared.parts.get(JobState.RUNNING, 0) + shared.parts.get(JobState.CANCELLING, 0)
    search = "worker searches" if at_work == 1 else "workers search"
    return f"{at_work} {search} parts of it now; {given} in all so far."


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def evidence_of(query: Mapping[str, Any], verdict: Mapping[str, Any], network: NetworkRecord, parts: Parts) -> Shown:
    """What was asked about and what was found, as pictures and numbers.

    Args:
        query: of the question.
        verdict: the answer, empty while there is none.
        network: that was asked about.
        parts: data sets and their files.
    """
    if verdict.get("universal"):
        return perturbation(verdict["universal"], network.summary["input_shape"])
    found = verdict.get("counterexample") or verdict.get("witness")
    # the evidence of a comparison is about another network, whose inputs may be others
    center = None if verdict.get("product") else center_of(query, parts)
    return evidence(
        center,
        found,
        shape=(found or {}).get("shape") or network.summary["input_shape"],
        center_output=(verdict.get("statistics") or {}).get("center_output"),
        label=query.get("label"),
        domain=domain_of(query),
    )


def center_of(query: Mapping[str, Any], parts: Parts) -> list[float] | None:
    """The input that a question is about, in C order; None where it has none, or its data set is gone."""
    if query.get("input") is not None:
        return [float(value) for value in query["input"]]
    if "dataset" not in query or "index" not in query:
        return None
    try:
        path = parts.artifacts.get(parts.ledger.datasets.get(query["dataset"]).artifact).path
        return read_rows(path, query["index"], query["index"] + 1).input(0).tolist()  # type: ignore[no-any-return]
    except NotFoundError:
        return None


def domain_of(query: Mapping[str, Any]) -> tuple[float, float] | None:
    """Least and greatest value of an input entry, where the question says so."""
    if query.get("domain") is None:
        return None
    low, high = (float(exact(end)) for end in query["domain"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def answer_charts(verdict: Mapping[str, Any]) -> list[Chart]:
    """What an answer took: its time by stage, and which layers leave ReLUs open."""
    shown = []
    if verdict.get("stages") and not verdict.get("cached_from"):
        spent = [(each["name"], float(each["seconds"]), _facts(each)) for each in verdict.get("stages", ())]
        shown.append(stages(spent, name="stages"))
    counts = (verdict.get("statistics") or {}).get("layers")
    if counts:
        named = [(f"ReLU {i}", each["relus"], each["unstable"]) for i, each in enumerate(counts, 1)]
        shown.append(layers(named, name="layers"))
    return shown


def _facts(stage: Mapping[str, Any]) -> str:
    """What a stage came to, in one line."""
    return ", ".join(f"{key} {_fact(value)}" for key, value in stage.items() if key not in _STAGE)


def _fact(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | Mapping):
        return str(value)
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_fact(each)}" for key, each in value.items()) + ")"
    return number(value)


def _commands(record: JobRecord, network: NetworkRecord, site: str, curl: str) -> list[tuple[str, str]]:
    """The same question to this service again, and on another machine; ``curl`` shows a key if it must."""
    if record.batch is not None or record.parent is not None:
        return []
    request = {key: value for key, value in record.request.items() if key not in {"query", "network"}}
    members = ", ".join(f"{key}: {json.dumps(value)}" for key, value in request.items())
    asked = f"{{network, query: .request.query, {members}}}"
    return [
        (
            "Ask this service again",
            (
                f"{curl} '{site}/v1/jobs/{record.id}?include=input' | jq '{asked}' |\n"
                f"  {curl} --json @- '{site}/v1/verify?wait=60'"
            ),
        ),
        ("Decide it on your own machine", "\n".join(_local(record, network, site, curl))),
    ]


def _local(record: JobRecord, network: NetworkRecord, site: str, curl: str) -> list[str]:
    """Commands for a machine that has the network's file."""
    query = record.request["query"]
    member, file = (".vnnlib", "property.vnnlib") if "vnnlib" in query else ("", "query.json")
    document = f"{curl} '{site}/v1/jobs/{record.id}?include=input'"
    network_file = shlex.quote(network.name or "network.onnx")
    return [
        f"{document} | jq -r .request.query{member} > {file}",
        f"netproof verify {network_file} {file} --timeout {record.time_limit:g}",
    ]
