"""From the form that asks one question to the request of ``POST /v1/verify``, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.dashboard.forms import fault

__all__ = [
    "FIELDS",
    "FormError",
    "Picked",
    "decision",
    "domain",
    "of_job",
    "quotient",
    "request_of",
    "stated",
    "unstated",
    "whole",
]

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
    "epsilon": "epsilon",
    "low": "low",
    "label": "label",
    "targets": "targets",
    "time_limit": "time_limit",
    "seed": "seed",
    "vnnlib": "vnnlib",
}
#: Members of a query that the form has fields for.
_STATED = frozenset({"input", "dataset", "index", "epsilon", "norm", "domain", "label", "targets", "kind", "vnnlib"})
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
    request |= decision(texts, wrong, limits=["time_limit"])
    if wrong:
        raise FormError(**wrong)
    return request


def decision(texts: Mapping[str, str], wrong: dict[str, str], *, limits: Iterable[str]) -> dict[str, Any]:
    """How and for how long to decide, as far as a form says it; what is wrong with it goes into ``wrong``."""
    how: dict[str, Any] = {name: texts[name] for name in ("engine", "backend", "priority") if stated(texts, name)}
    how |= {name: _number(texts[name], name, wrong) for name in limits if texts.get(name, "").strip()}
    if stated(texts, "seed"):
        how["seed"] = whole(texts["seed"], "seed", wrong)
    if texts.get("certificate"):
        how["certificate"] = True
    if texts.get("anew"):
        how["reuse"] = False
    return how


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
        query["epsilon"] = quotient(texts["epsilon"])
    elif texts.get("kind") != "distance":
        wrong["epsilon"] = "give the radius; only the nearest violation may be looked for without one"
    if stated(texts, "norm"):
        query["norm"] = texts["norm"]
    query |= domain(texts, wrong)
    if texts.get("label", "").strip():
        query["label"] = whole(texts["label"], "label", wrong)
    if texts.get("targets", "").strip():
        query["targets"] = [whole(each, "targets", wrong) for each in re.split(r"[,\s]+", texts["targets"].strip())]
    return query


def _entries(text: str, wrong: dict[str, str]) -> list[float]:
    """Numbers apart by commas, spaces, lines or brackets."""
    found = []
    for place, each in enumerate(re.split(r"[\s,;\[\]()]+", text.strip(" \t\r\n,;[]()"))):
        value = _finite(each)
        if value is None:
            wrong["numbers"] = (
                f"entry {place} is no finite number: {each[:40]!r}"
                if each
                else "give the input's numbers, or pick an input"
            )
            return []
        found.append(value)
    return found


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _number(text: str, name: str, wrong: dict[str, str]) -> float:
    """The number in a field; what is none goes into ``wrong``."""
    value = _finite(text)
    if value is None:
        wrong[name] = f"expected a number, got {text[:40]!r}"
    return value or 0.0


def quotient(text: str) -> str:
    """A number as it was typed, without spaces around a fraction's bar."""
    return re.sub(r"\s*/\s*", "/", text.strip())


def domain(texts: Mapping[str, str], wrong: dict[str, str]) -> dict[str, list[str]]:
    """The ends of an entry's range, if they are stated; one alone goes into ``wrong``."""
    ends = [quotient(texts.get(name, "")) for name in ("low", "high")]
    if any(ends) and not all(ends):
        wrong["low"] = "give both ends of the range, or leave both empty"
    return {"domain": ends} if all(ends) else {}


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
    if "dataset" in query:
        return texts | {"source": "dataset", "dataset": query["dataset"], "index": str(query["index"])}
    return texts | {"source": "numbers", "numbers": " ".join(map(str, query.get("input", ())))}


def unstated(request: Mapping[str, Any]) -> list[str]:
    """Members of a job's query that the form has no field for: without them, it asks another question."""
    query = request["query"]
    beyond = [name for name, value in query.items() if name not in _STATED and value is not None]
    return ["kind", *beyond] if query.get("kind") == "universal" else beyond
