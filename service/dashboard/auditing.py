"""From the form that audits a data set to the request of ``POST /v1/batches``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from service.dashboard.asking import FormError, decision, domain, quotient, stated, whole

__all__ = ["FIELDS", "batch_of"]

#: From places in the request to the fields that they were typed in.
FIELDS = {
    "/network": "network",
    "/dataset": "dataset",
    "/query/epsilon": "epsilon",
    "/query/norm": "norm",
    "/query/domain": "low",
    "/query/kind": "kind",
    "/selection": "end",
    "/name": "name",
    "/engine": "engine",
    "/backend": "backend",
    "/time_limit": "time_limit",
    "/total_limit": "total_limit",
    "/priority": "priority",
    "/seed": "seed",
    **{
        name: name
        for name in (
            "network",
            "dataset",
            "epsilon",
            "low",
            "begin",
            "end",
            "step",
            "time_limit",
            "total_limit",
            "seed",
        )
    },
}


def batch_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """The request that a filled form states.

    Raises:
        FormError: a field that has to be a number is none, or nothing was chosen. Whatever else is wrong, the API says.
    """
    wrong: dict[str, str] = {}
    request: dict[str, Any] = {name: texts.get(name, "") for name in ("network", "dataset")}
    if not request["network"]:
        wrong["network"] = "choose a network, or upload one"
    if not request["dataset"]:
        wrong["dataset"] = "upload a data set first"
    request["query"] = _template(texts, wrong)
    selection = {
        name: whole(texts[name], name, wrong) for name in ("begin", "end", "step") if texts.get(name, "").strip()
    }
    if selection:
        request["selection"] = selection
    if texts.get("name", "").strip():
        request["name"] = texts["name"].strip()[:255]
    request |= decision(texts, wrong, limits=["time_limit", "total_limit"])
    if texts.get("priority"):  # a batch's is low where nothing is said
        request["priority"] = texts["priority"]
    if wrong:
        raise FormError(**wrong)
    return request


def _template(texts: Mapping[str, str], wrong: dict[str, str]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    written = quotient(texts.get("epsilon", ""))
    epsilons = [each for each in re.split(r"[,;\s]+", written) if each]
    if texts.get("norm") != "l0" and (decimal := re.search(r"(?<![\d./])\d+,\d+", written)):
        # 0,05 would be taken for 0 and 5
        wrong["epsilon"] = f"write {decimal[0]} with a point, or with a space behind the comma if it is two numbers"
    elif epsilons:
        query["epsilon"] = epsilons
    elif texts.get("kind") != "distance":
        wrong["epsilon"] = "give the radius, or several apart by commas"
    query |= {name: texts[name] for name in ("norm", "kind") if stated(texts, name)}
    return query | domain(texts, wrong)
