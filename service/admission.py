"""From what a client sent to what the ledger keeps: a request that fits its network, or a problem that says why not.

The checks are those of the domain itself (`solver.question`), so the edge and the job cannot disagree; what is added
here is the JSON pointer of what is wrong. VNNLIB texts are read here up to `_EDGE_VNNLIB`
characters, which covers all but look-up-table benchmarks: longer ones would keep a thread of the web process busy for
seconds, so the job reads them, and its failure says what this edge would have said.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypeVar

from pydantic import ValidationError

from networks.errors import RegionError
from service.errors import NotFoundError
from service.models import NetworkRecord
from service.problems import INVALID_REQUEST, MALFORMED_JSON, TOO_LARGE, Fault, Kind, ProblemError, faults, kind_of
from service.queries import QueryDocument, is_exact
from service.schema_base import RequestModel
from service.schemas import UNION_TAGS, VerifyRequest
from service.settings import Settings
from solver import question, sizes
from solver.universal_question import universal_faults

__all__ = ["admit", "fingerprint", "parse_request", "validated"]

_EDGE_VNNLIB = 2**18
#: Members of a query that may be nested lists, and whether their numbers may be texts such as ``"1/3"``.
_ARRAYS = {"input": False, "radii": True, "lower": True, "upper": True}
#: More places than that are not listed: the first few say what is wrong with all.
_MAX_FAULTS = 20

_Found: TypeAlias = tuple[Kind, Fault]
_Asked = TypeVar("_Asked", bound=RequestModel)


def parse_request(body: bytes) -> VerifyRequest:
    """The body of ``POST /v1/verify``.

    Raises:
        ProblemError: not JSON (400), or not of the form that `VerifyRequest` describes (422).
    """
    found = validated(VerifyRequest, body, UNION_TAGS)
    if isinstance(found, VerifyRequest):
        return found
    raise _refusal([(INVALID_REQUEST, fault) for fault in found])


def validated(model: type[_Asked], body: bytes, tags: frozenset[str]) -> _Asked | list[Fault]:
    """A body as a ``model``, or what keeps it from being one; ``tags`` are those of `service.problems.faults`.

    Raises:
        ProblemError: it is not JSON.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        if details[0]["type"] == "json_invalid":
            detail = f"{details[0]['msg']}; send one JSON object, as /openapi.json describes it"
            raise ProblemError(MALFORMED_JSON, detail) from None
        return faults(details, tags=tags)


def admit(
    request: VerifyRequest,
    network: NetworkRecord,
    settings: Settings,
    find: Callable[[str], NetworkRecord] | None = None,
) -> dict[str, Any]:
    """The request as the ledger keeps it (see `service.request`), with the input flat and every default filled in.

    Args:
        request, network, settings: what was asked, about which network, and what may be asked.
        find: gives another network that a query names; without it, none may be named.

    Raises:
        ProblemError: the query does not fit the network, or asks for more than the settings allow.
    """
    limit = settings.default_time_limit if request.time_limit is None else request.time_limit
    if limit > settings.max_time_limit:
        detail = f"time_limit is {limit:g} seconds, but this service allows {settings.max_time_limit:g}; ask for less"
        raise _refusal([(INVALID_REQUEST, Fault("/time_limit", detail))])
    _check_memory(network.summary, settings)
    return {
        "network": network.sha256,
        "query": _query(request.query, network.summary, find),
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


def _check_memory(summary: dict[str, Any], settings: Settings) -> None:
    """Refuses a network of which not even one region can be bounded within a job's memory.

    The job estimates again, with the number of regions and with what the machine has left then.
    """
    entries = sum(math.prod(layer["shape"]) for layer in summary.get("layers", ()))
    needed = sizes.needed(entries, int(summary["relus"]), int(summary["parameters"]), 1, 0)
    limit = settings.memory_limit_mb * 2**20
    if needed > limit:
        detail = (
            f"{sizes.explained(needed, limit, entries, 1)} to a job; verify a smaller network, or ask the operator to "
            "raise NETPROOF_MEMORY_LIMIT_MB"
        )
        raise _refusal([(TOO_LARGE, Fault("/network", detail))])


@dataclass(frozen=True, slots=True)
class _Signature:
    """What the ledger knows of a network, as far as a query has to fit it."""

    inputs: int
    outputs: int
    input_shape: tuple[int, ...]

    @classmethod
    def of(cls, summary: dict[str, Any]) -> Self:
        return cls(int(summary["inputs"]), int(summary["outputs"]), tuple(summary["input_shape"]))


def _query(
    query: QueryDocument, summary: dict[str, Any], find: Callable[[str], NetworkRecord] | None
) -> dict[str, Any]:
    """The query with what was given, arrays flat."""
    found: list[_Found] = []
    members = query.model_dump(exclude_unset=True, exclude_none=True, warnings=False)
    signature = _Signature.of(summary)
    if members.get("kind") == "universal":
        return _universal(members, signature)
    misread = set()
    for name, texts in _ARRAYS.items():
        if isinstance(members.get(name), list):
            before = len(found)
            members[name] = list(_numbers(members[name], f"/query/{name}", found, texts=texts))
            if len(found) > before:
                misread.add(name)
    checked = members | {name: [0.0] * signature.inputs for name in misread}
    if "equivalent_to" in members:
        checked["equivalent_to"] = _other(members["equivalent_to"], find)
    if len(checked.get("vnnlib", "")) <= _EDGE_VNNLIB:
        wrong = (fault for fault in question.faults(checked, signature) if fault.member not in misread)
        found += [(kind_of(fault.error), Fault(f"/query/{fault.member}", str(fault.error))) for fault in wrong]
    if found:
        raise _refusal(found)
    return {"norm": "linf"} | members if "epsilon" in members else members


def _universal(members: dict[str, Any], signature: _Signature) -> dict[str, Any]:
    """A question about one perturbation of many inputs, each of them flat."""
    found: list[_Found] = []
    if "inputs" in members:
        members["inputs"] = [
            list(_numbers(each, f"/query/inputs/{i}", found, texts=False)) for i, each in enumerate(members["inputs"])
        ]
    if not found:
        wrong = universal_faults(members, signature)
        found += [(kind_of(fault.error), Fault(f"/query/{fault.member}", str(fault.error))) for fault in wrong]
    if found:
        raise _refusal(found)
    return members


def _other(stated: dict[str, Any], find: Callable[[str], NetworkRecord] | None) -> dict[str, Any]:
    """What another network is known by, in the place of its sha256."""
    pointer = "/query/equivalent_to/network"
    if find is None:
        detail = "another network can be named by POST /v1/verify alone; ask one question at a time"
        raise _refusal([(INVALID_REQUEST, Fault(pointer, detail))])
    try:
        return stated | {"network": _Signature.of(find(stated["network"]).summary)}
    except NotFoundError as error:
        detail = f"{error}; upload it by POST /v1/networks first"
        raise _refusal([(kind_of(error), Fault(pointer, detail))]) from error


def _numbers(tree: list[Any], pointer: str, found: list[_Found], *, texts: bool) -> Iterator[float | str]:
    """The numbers of a nested list, in order; whatever is not a finite number is found at fault."""
    for i, entry in enumerate(tree):
        if isinstance(entry, list):
            yield from _numbers(entry, f"{pointer}/{i}", found, texts=texts)
        elif is_exact(entry) if texts else _is_finite(entry):
            yield entry
        else:
            detail = f"every entry must be a finite number, got {repr(entry)[:80]}"
            found.append((kind_of(RegionError), Fault(f"{pointer}/{i}", detail)))


def _is_finite(value: object) -> bool:
    return not isinstance(value, str) and is_exact(value)


def _refusal(found: list[_Found]) -> ProblemError:
    """The problem of everything that is at fault; its kind is theirs where they agree."""
    kinds = {kind for kind, _ in found}
    places = [fault for _, fault in found[:_MAX_FAULTS]]
    detail = f"{places[0].pointer or '/'}: {places[0].detail}"
    if len(found) > 1:
        detail += f" (and {len(found) - 1} more, see errors)"
    return ProblemError(kinds.pop() if len(kinds) == 1 else INVALID_REQUEST, detail, errors=places)
