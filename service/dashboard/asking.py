"""From the form that asks one question to the request of ``POST /v1/verify``, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.dashboard.forms import fault

__all__ = ["FIELDS", "FormError", "Picked", "number", "of_job", "request_of", "stated", "whole"]

#: From places in the request to the fields that they were typed in.
FIELDS = {
    "/network": "network",
    "/query/epsilon": "epsilon",
    "/query/norm": "norm",
    "/query/domain": "low",
    "/query/input": "numbers",
    "/query/label": "label",
    "/query/targets": "targets",
    "/query/kind": "kind",
    "/query/vnnlib": "vnnlib",
    "/engine": "engine",
    "/backend": "backend",
    "/time_limit": "time_limit",
    "/priority": "priority",
    "/seed": "seed",
    "network": "network",
    "dataset": "dataset",
    "index": "index",
    "numbers": "numbers",
    "label": "label",
    "targets": "targets",
    "time_limit": "time_limit",
    "seed": "seed",
    "vnnlib": "vnnlib",
}
_DEFAULTS = {"norm": "linf", "kind": "decide", "engine": "auto", "backend": "auto", "priority": "normal", "seed": "0"}


class FormError(ValueError):
    """What the form itself finds wrong; ``document`` is the problem, by field."""

    def __init__(self, **wrong: str) -> None:
        super().__init__("; ".join(wrong.values()))
        self.document = fault(**wrong)


@dataclass(frozen=True, slots=True)
class Picked:
    """An input of a data set: its index and label, and its values in network units."""

    index: int
    label: int
    values: Sequence[float]


def request_of(texts: Mapping[str, str], picked: Picked | None) -> dict[str, Any]:
    """The request that a filled form states.

    Args:
        texts: of the fields.
        picked: the input that was chosen from a data set, if that is where it comes from.

    Raises:
        FormError: a field that has to be a number is none, or nothing was chosen. Whatever else is wrong, the API says.
    """
    wrong: dict[str, str] = {}
    request: dict[str, Any] = {"network": texts.get("network", "")}
    if not request["network"]:
        wrong["network"] = "choose a network, or upload one"
    query: dict[str, Any] = {}
    if texts.get("source") == "vnnlib":
        query["vnnlib"] = texts.get("vnnlib", "")
        if not query["vnnlib"].strip():
            wrong["vnnlib"] = "choose a file, or paste the text of one"
    else:
        query |= _ball(texts, picked, wrong)
    if texts.get("kind", "decide") != "decide":
        query["kind"] = texts["kind"]
    request["query"] = query
    request |= {name: texts[name] for name in ("engine", "backend", "priority") if stated(texts, name)}
    if texts.get("time_limit", "").strip():
        request["time_limit"] = number(texts["time_limit"], "time_limit", wrong)
    if stated(texts, "seed"):
        request["seed"] = whole(texts["seed"], "seed", wrong)
    if texts.get("certificate"):
        request["certificate"] = True
    if texts.get("anew"):
        request["reuse"] = False
    if wrong:
        raise FormError(**wrong)
    return request


def stated(texts: Mapping[str, str], name: str) -> bool:
    """Whether a field says something else than the API assumes anyway."""
    return texts.get(name, "").strip() not in {"", _DEFAULTS[name]}


def _ball(texts: Mapping[str, str], picked: Picked | None, wrong: dict[str, str]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    if picked is not None:
        query["input"] = list(picked.values)
        query["label"] = picked.label
    elif texts.get("source") == "dataset":
        wrong.setdefault("dataset", "choose a data set, or give the input as numbers")
    else:
        query["input"] = _entries(texts.get("numbers", ""), wrong)
    if texts.get("epsilon", "").strip():
        query["epsilon"] = texts["epsilon"].strip()
    if stated(texts, "norm"):
        query["norm"] = texts["norm"]
    low, high = texts.get("low", "").strip(), texts.get("high", "").strip()
    if low or high:
        query["domain"] = [low, high]
    if texts.get("label", "").strip():
        query["label"] = whole(texts["label"], "label", wrong)
    if texts.get("targets", "").strip():
        query["targets"] = [whole(each, "targets", wrong) for each in re.split(r"[,\s]+", texts["targets"].strip())]
    return query


def _entries(text: str, wrong: dict[str, str]) -> list[float]:
    """Numbers apart by commas, spaces, lines or brackets."""
    found = []
    for place, each in enumerate(re.split(r"[\s,;\[\]()]+", text.strip(" \t\r\n,;[]()"))):
        try:
            found.append(float(each))
        except ValueError:
            wrong["numbers"] = (
                f"entry {place} is no number: {each[:40]!r}" if each else "give the input's numbers, or pick an input"
            )
            return []
    return found


def number(text: str, name: str, wrong: dict[str, str]) -> float:
    """The number in a field; what is none goes into ``wrong``."""
    try:
        return float(text)
    except ValueError:
        wrong[name] = f"expected a number, got {text[:40]!r}"
        return 0.0


def whole(text: str, name: str, wrong: dict[str, str]) -> int:
    """The whole number in a field; what is none goes into ``wrong``."""
    if re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII):
        return int(text)
    wrong[name] = f"expected a whole number from 0 on, got {text[:40]!r}"
    return 0


def of_job(request: Mapping[str, Any]) -> dict[str, str]:
    """The texts that ask a job's question again, as far as the form can state it."""
    query = request["query"]
    texts = {"network": str(request["network"]), "time_limit": f"{request['time_limit']:g}"}
    texts |= {name: str(request.get(name, value)) for name, value in _DEFAULTS.items() if name in request}
    texts |= {name: str(query[name]) for name in ("epsilon", "norm", "kind", "label") if query.get(name) is not None}
    if request.get("certificate"):
        texts["certificate"] = "on"
    if query.get("targets") is not None:
        texts["targets"] = ", ".join(map(str, query["targets"]))
    low, high = query.get("domain") or ("", "")
    texts |= {"low": str(low), "high": str(high)}
    if "vnnlib" in query:
        return texts | {"source": "vnnlib", "vnnlib": query["vnnlib"]}
    return texts | {"source": "numbers", "numbers": " ".join(map(str, query.get("input", ())))}
