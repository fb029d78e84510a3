"""From what a client sent to what the ledger keeps: a request that fits its network, or a problem that says why not.

The checks are those of the domain itself (`networks.region`, `networks.property`), so the edge and the job cannot
disagree; what is added here is the JSON pointer of what is wrong. VNNLIB texts are read here up to `_EDGE_VNNLIB`
characters, which covers all but look-up-table benchmarks: longer ones would keep a thread of the web process busy for
seconds, so the job reads them, and its failure says what this edge would have said.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from pydantic import ValidationError

from networks.errors import InputError, RegionError
from networks.property import Property
from networks.region import Region
from networks.vnnlib import parse_vnnlib
from service.models import NetworkRecord
from service.problems import INVALID_REQUEST, MALFORMED_JSON, Fault, Kind, ProblemError, faults, kind_of
from service.schemas import UNION_TAGS, BallQuery, VerifyRequest, VnnlibQuery
from service.settings import Settings

__all__ = ["admit", "fingerprint", "parse_request"]

_EDGE_VNNLIB = 2**18
#: More places than that are not listed: the first few say what is wrong with all.
_MAX_FAULTS = 20

_Found: TypeAlias = tuple[Kind, Fault]


def parse_request(body: bytes) -> VerifyRequest:
    """The body of ``POST /v1/verify``.

    Raises:
        ProblemError: not JSON (400), or not of the form that `VerifyRequest` describes (422).
    """
    try:
        return VerifyRequest.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            detail = f"{details[0]['msg']}; send one JSON object, as /openapi.json describes it"
            raise ProblemError(MALFORMED_JSON, detail) from None
        raise _refusal([(INVALID_REQUEST, fault) for fault in faults(details, tags=UNION_TAGS)]) from None


def admit(request: VerifyRequest, network: NetworkRecord, settings: Settings) -> dict[str, Any]:
    """The request as the ledger keeps it (see `service.request`), with the input flat and every default filled in.

    Raises:
        ProblemError: the query does not fit the network, or asks for more than the settings allow.
    """
    limit = settings.default_time_limit if request.time_limit is None else request.time_limit
    if limit > settings.max_time_limit:
        detail = f"time_limit is {limit:g} seconds, but this service allows {settings.max_time_limit:g}; ask for less"
        raise _refusal([(INVALID_REQUEST, Fault("/time_limit", detail))])
    query = request.query
    return {
        "network": network.sha256,
        "query": _ball(query, network.summary) if isinstance(query, BallQuery) else _vnnlib(query, network.summary),
        "engine": str(request.engine),
        "backend": str(request.backend),
        "time_limit": limit,
        "priority": str(request.priority),
        "seed": request.seed,
        "certificate": request.certificate,
        "reuse": request.reuse,
    }


def fingerprint(request: dict[str, Any]) -> str:
    """Digest of an admitted request: what an idempotency key is compared by."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _ball(query: BallQuery, summary: dict[str, Any]) -> dict[str, Any]:
    found: list[_Found] = []
    inputs, outputs = int(summary["inputs"]), int(summary["outputs"])
    point = list(_numbers(query.input, "/query/input", found))
    if not found and len(point) != inputs:
        detail = (
            f"the input has {len(point)} entries, but the network expects {inputs} (shape {summary['input_shape']}); "
            "send one input, flat or nested"
        )
        found.append((kind_of(RegionError), Fault("/query/input", detail)))
    usable = not found
    with _at("/query/epsilon", found):
        Region.linf_ball((0.0,), query.epsilon)  # around the origin, epsilon alone can be at fault
    if usable and not found:
        with _at("/query/input", found):
            Region.linf_ball(point, query.epsilon, query.domain)
    labels = len(found)
    with _at("/query/label", found):
        Property.classification(query.label, outputs)
    if query.targets is not None and len(found) == labels:
        with _at("/query/targets", found):
            Property.classification(query.label, outputs, query.targets)
    if found:
        raise _refusal(found)
    return {
        "input": point,
        "epsilon": query.epsilon,
        "norm": query.norm,
        "domain": None if query.domain is None else list(query.domain),
        "label": query.label,
        "targets": query.targets,
    }


def _vnnlib(query: VnnlibQuery, summary: dict[str, Any]) -> dict[str, Any]:
    if len(query.vnnlib) <= _EDGE_VNNLIB:
        found: list[_Found] = []
        with _at("/query/vnnlib", found):
            parse_vnnlib(query.vnnlib, int(summary["inputs"]), int(summary["outputs"]))
        if found:
            raise _refusal(found)
    return {"vnnlib": query.vnnlib}


def _numbers(tree: list[Any], pointer: str, found: list[_Found]) -> Iterator[float]:
    """The numbers of a nested list, in order; whatever is not a finite number is found at fault."""
    for i, entry in enumerate(tree):
        if isinstance(entry, list):
            yield from _numbers(entry, f"{pointer}/{i}", found)
        elif isinstance(entry, int | float) and not isinstance(entry, bool) and _is_finite(entry):
            yield entry
        else:
            detail = f"every entry of the input must be a finite number, got {repr(entry)[:80]}"
            found.append((kind_of(RegionError), Fault(f"{pointer}/{i}", detail)))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False


@contextmanager
def _at(pointer: str, found: list[_Found]) -> Iterator[None]:
    """Note an error about the input as a fault at ``pointer``."""
    try:
        yield
    except InputError as error:
        found.append((kind_of(error), Fault(pointer, str(error))))


def _refusal(found: list[_Found]) -> ProblemError:
    """The problem of everything that is at fault; its kind is theirs where they agree."""
    kinds = {kind for kind, _ in found}
    places = [fault for _, fault in found[:_MAX_FAULTS]]
    detail = f"{places[0].pointer or '/'}: {places[0].detail}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more, see errors)"
    return ProblemError(kinds.pop() if len(kinds) == 1 else INVALID_REQUEST, detail, errors=places)
