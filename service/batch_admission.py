"""From a batch as a client sent it to what the ledger keeps: items that fit network and data set, or a problem.

The template goes through `service.admission` like any other query, once for each epsilon, so a batch refuses what a
single question would refuse, at the same places.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NoReturn

from networks.errors import DatasetError
from networks.exact import exact
from service.admission import admit, parse_request, validated
from service.batch_models import DatasetRecord
from service.batch_schemas import BATCH_TAGS, BatchRequest, SelectionRequest
from service.batch_work import labelled
from service.models import NetworkRecord
from service.problems import INVALID_REQUEST, Fault, ProblemError, kind_of
from service.schemas import UNION_TAGS
from service.settings import Settings

__all__ = ["Item", "admit_batch", "parse_batch"]

_MOST_EPSILONS = 32

#: Input, epsilon and label of an item.
Item = tuple[int, str, int]


def parse_batch(body: bytes) -> BatchRequest:
    """The body of ``POST /v1/batches``.

    Raises:
        ProblemError: not JSON (400), or not of the form that `BatchRequest` describes (422).
    """
    found = validated(BatchRequest, body, BATCH_TAGS | UNION_TAGS)
    if isinstance(found, BatchRequest):
        return found
    detail = f"{found[0].pointer or '/'}: {found[0].detail}"
    raise ProblemError(INVALID_REQUEST, detail, errors=found[:20])


def admit_batch(
    asked: BatchRequest,
    network: NetworkRecord,
    dataset: DatasetRecord,
    labels: list[int],
    settings: Settings,
    find: Callable[[str], NetworkRecord],
) -> tuple[dict[str, Any], list[Item]]:
    """The request as the ledger keeps it, completed by defaults, and its items, those of one input together.

    Args:
        asked: what the client sent.
        network: that it is about.
        dataset: that its inputs come from; ``labels`` are all of its labels.
        labels: of the data set.
        settings: of the service.
        find: gives another network that the query names.

    Raises:
        ProblemError: the parts do not fit, or ask for more than the settings allow.
    """
    epsilons = _epsilons(asked.query)
    indices = _indices(asked.selection, len(labels))
    if len(indices) * len(epsilons) > settings.max_batch_items:
        detail = (
            f"{len(indices)} inputs at {len(epsilons)} epsilons are {len(indices) * len(epsilons)} items, but this "
            f"service takes {settings.max_batch_items} in a batch; send several"
        )
        _refuse("/selection", detail)
    _check_fit(network, dataset, indices, labels)
    chosen = [labels[index] for index in indices]
    admitted = [_admitted(asked, epsilon, chosen[0], network, settings, find) for epsilon in epsilons]
    query = {key: value for key, value in admitted[0]["query"].items() if key not in {"input", "label", "epsilon"}}
    request = {key: value for key, value in admitted[0].items() if key != "query"} | {
        "dataset": dataset.sha256,
        "name": asked.name,
        "query": query,
        "epsilon": epsilons,
        "selection": asked.selection.model_dump(mode="json"),
        "total_limit": asked.total_limit,
        "reuse": asked.reuse,
    }
    items = [(index, epsilon, label) for index, label in zip(indices, chosen, strict=True) for epsilon in epsilons]
    return request, items


def _epsilons(template: dict[str, Any]) -> list[str]:
    """The epsilons as they were written, each once, in ascending order."""
    given = template.get("epsilon")
    if given is None and template.get("kind") == "distance":
        return [""]  # the domain bounds the search
    if given is None:
        _refuse("/query/epsilon", "it is missing; give the radius of the balls, or a list of them")
    several = given if isinstance(given, list) else [given]
    if not 0 < len(several) <= _MOST_EPSILONS:
        _refuse("/query/epsilon", f"expected 1 to {_MOST_EPSILONS} numbers, got {len(several)}")
    found: dict[Fraction, str] = {}
    for i, each in enumerate(several):
        pointer = f"/query/epsilon/{i}" if isinstance(given, list) else "/query/epsilon"
        if isinstance(each, bool) or not isinstance(each, int | float | str) or len(str(each)) > 120:
            _refuse(pointer, f"expected a finite number or a text such as '8/255', got {repr(each)[:80]}")
        try:
            found.setdefault(exact(each), str(each))
        except ValueError as error:
            _refuse(pointer, str(error))
    return [found[value] for value in sorted(found)]


def _indices(selection: SelectionRequest, count: int) -> list[int]:
    if selection.indices is not None:
        wrong = next((index for index in selection.indices if index >= count), None)
        if wrong is not None:
            detail = f"there is no input {wrong} in the data set, which has {count}: 0 to {count - 1}"
            _refuse("/selection/indices", detail)
        if len(set(selection.indices)) < len(selection.indices):
            _refuse("/selection/indices", "an index occurs twice; each input is decided once")
        return list(selection.indices)
    end = count if selection.end is None else min(selection.end, count)
    chosen = list(range(selection.begin, end, selection.step))
    if not chosen:
        detail = f"no input is chosen: from {selection.begin} to {end} of {count}; begin has to be less than end"
        _refuse("/selection", detail)
    return chosen


def _check_fit(network: NetworkRecord, dataset: DatasetRecord, indices: list[int], labels: list[int]) -> None:
    summary = network.summary
    if dataset.summary["features"] != summary["inputs"]:
        detail = (
            f"the data set has inputs of {dataset.summary['features']} entries (shape {dataset.summary['shape']}), but "
            f"the network expects {summary['inputs']} (shape {summary['input_shape']})"
        )
        raise ProblemError(kind_of(DatasetError), detail, errors=[Fault("/dataset", detail)])
    wrong = next((index for index in indices if not 0 <= labels[index] < summary["outputs"]), None)
    if wrong is not None:
        detail = (
            f"the data set gives input {wrong} the label {labels[wrong]}, but the network has {summary['outputs']} "
            f"outputs, labels 0 to {summary['outputs'] - 1}"
        )
        raise ProblemError(kind_of(DatasetError), detail, errors=[Fault("/dataset", detail)])


def _admitted(
    asked: BatchRequest,
    epsilon: str,
    label: int,
    network: NetworkRecord,
    settings: Settings,
    find: Callable[[str], NetworkRecord],
) -> dict[str, Any]:
    """A single question of the batch, admitted; its input is a stand-in that lies in the domain."""
    standing = [_inside(asked.query.get("domain"))] * int(network.summary["inputs"])
    single = {
        "network": network.sha256,
        "query": {**asked.query, "epsilon": epsilon or None, "input": standing, **labelled(asked.query, label)},
        **{key: str(getattr(asked, key)) for key in ("engine", "backend", "priority")},
        **{key: getattr(asked, key) for key in ("time_limit", "seed", "certificate")},
    }
    for key in ("input", "label"):
        if key in asked.query:
            _refuse(f"/query/{key}", f"{key} comes from the data set; leave it out of a batch's query")
    return admit(parse_request(json.dumps(single).encode()), network, settings, find)


def _inside(domain: Any) -> float:
    """A number in the domain, if that is one."""
    try:
        low = exact(domain[0])
        value = float(low)
    except (TypeError, ValueError, LookupError, OverflowError):
        return 0.0
    return value if Fraction(value) >= low else math.nextafter(value, math.inf)


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise ProblemError(INVALID_REQUEST, f"{pointer}: {detail}", errors=[Fault(pointer, detail)])
