"""What a form asks, as somebody would ask it elsewhere: by curl, by the command line, and from Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["KEY", "Files", "audit_commands", "curl", "question_commands"]

#: Where a service that asks for keys takes one.
KEY = ' -H "Authorization: Bearer $NETPROOF_API_KEY"'

_LOCAL = "On your own machine"
_PYTHON = "From Python"
_SERVICE = "To this service"


@dataclass(frozen=True, slots=True)
class Files:
    """What the files of a question are called.

    Attributes:
        network: the ONNX file.
        dataset: the data set, "" where none is used.
        scaled: whether that holds bytes, to which the command line gives the domain [0, 1] of itself.
        index: of the chosen input.
        label: of the same.
    """

    network: str
    dataset: str = ""
    scaled: bool = False
    index: int = 0
    label: int | None = None

    def stated_by(self, query: Mapping[str, Any]) -> bool:
        """Whether naming the data set states the same as ``query``."""
        return self.dataset.endswith(".npz") and ("domain" in query or not self.scaled)


def curl(request: Mapping[str, Any], origin: str, *, key: bool, path: str = "/v1/verify?wait=30") -> str:
    """The request as it is sent; with a ``key``, it says where that goes."""
    body = json.dumps(request, ensure_ascii=False).replace("'", "'\\''")
    return f"curl{KEY if key else ''} --json '{body}' '{origin}{path}'"


def question_commands(request: Mapping[str, Any], files: Files, origin: str, *, key: bool) -> list[tuple[str, str]]:
    """How to ask one question: where, and the text."""
    shown = [(_LOCAL, _verify(request, files))]
    if files.dataset.endswith(".npz"):
        shown.append((_PYTHON, _python(request, files)))
    return [*shown, (_SERVICE, curl(request, origin, key=key))]


def _verify(request: Mapping[str, Any], files: Files) -> str:
    query = request["query"]
    options = [
        *_option("--timeout", request, "time_limit"),
        *_option("--engine", request),
        *_option("--backend", request),
        *_option("--seed", request),
        *(["--certificate", "certificate.zip"] if request.get("certificate") else []),
    ]
    if "vnnlib" in query:
        return _line("netproof", "verify", files.network, "property.vnnlib", *_option("--kind", query), *options)
    if not files.stated_by(query):
        document = json.dumps(query, ensure_ascii=False)
        asked = _line("netproof", "verify", files.network, "query.json", *options)
        return f"cat > query.json <<'END'\n{document}\nEND\n{asked}"
    label = [] if query.get("label") == files.label else _option("--label", query)
    targets = ["--targets", ",".join(map(str, query["targets"]))] if "targets" in query else []
    data = ["--data", files.dataset, "--index", str(files.index)]
    about = [*_ball(query), *label, *targets, *_option("--kind", query)]
    return _line("netproof", "verify", files.network, *data, *about, *options)


def _python(request: Mapping[str, Any], files: Files) -> str:
    query = request["query"]
    label = f"data.label({files.index})" if query.get("label") == files.label else repr(query["label"])
    members = {"input": f"data.input({files.index})", "label": label}
    members |= {name: _literal(value) for name, value in query.items() if name not in members}
    members |= {
        name: _literal(value)
        for name, value in request.items()
        if name in {"engine", "backend", "time_limit", "seed", "certificate"}
    }
    arguments = "".join(f"    {name}={value},\n" for name, value in members.items())
    return (
        "import netproof\nfrom networks import Dataset\n\n"
        f"data = Dataset.read({_literal(files.dataset)})\n"
        f"verdict = netproof.verify(\n    {_literal(files.network)},\n{arguments})\n"
        "print(verdict.outcome, verdict.margin)"
    )


def audit_commands(request: Mapping[str, Any], files: Files, origin: str, *, key: bool) -> list[tuple[str, str]]:
    """How to audit a data set: where, and the text."""
    shown = []
    query, selection = request["query"], request.get("selection", {})
    whole = selection.get("step", 1) == 1 and "seed" not in request
    if whole and len(query.get("epsilon", ())) == 1 and "kind" not in query and files.stated_by(query):
        shown.append((_LOCAL, _audit(request, files)))
    if whole and query.get("epsilon") and not files.scaled and files.dataset.endswith((".npz", ".csv")):
        shown.append((f"{_SERVICE}, with the files at hand", _submit(request, files, origin)))
    return [*shown, (_SERVICE, curl(request, origin, key=key, path="/v1/batches"))]


def _audit(request: Mapping[str, Any], files: Files) -> str:
    return _line(
        "netproof",
        "audit",
        files.network,
        *["--data", files.dataset],
        *_ball(request["query"]),
        *_selected(request),
        *_option("--timeout", request, "time_limit"),
        *_option("--engine", request),
        *_option("--backend", request),
        *(["--certificates", "certificates"] if request.get("certificate") else []),
    )


def _submit(request: Mapping[str, Any], files: Files, origin: str) -> str:
    query = request["query"]
    further = {"kind": query["kind"]} if "kind" in query else {}
    line = _line(
        "netproof",
        "batch",
        "submit",
        files.network,
        *["--data", files.dataset],
        *_ball(query),
        *(["--query", "query.json"] if further else []),
        *_selected(request),
        *_option("--timeout", request, "time_limit"),
        *_option("--total", request, "total_limit"),
        *_option("--engine", request),
        *_option("--backend", request),
        *_option("--priority", request),
        *(["--certificates"] if request.get("certificate") else []),
        *([] if request.get("reuse", True) else ["--fresh"]),
        *_option("--name", request),
        *["--server", origin],
    )
    return f"echo {shlex.quote(json.dumps(further))} > query.json\n{line}" if further else line


def _ball(query: Mapping[str, Any]) -> list[str]:
    """Radius (or several), norm and domain."""
    epsilon = query.get("epsilon", [])
    radii = [epsilon] if isinstance(epsilon, str) else epsilon
    every = [text for radius in radii for text in ("--eps", radius)]
    return [*every, *_option("--norm", query), *(["--domain", *query["domain"]] if "domain" in query else [])]


def _selected(request: Mapping[str, Any]) -> list[str]:
    selection = request.get("selection", {})
    begin, end = selection.get("begin", 0), selection.get("end", "")
    return ["--indices", f"{begin}:{end}"] if begin or end else []


def _option(flag: str, stated: Mapping[str, Any], name: str = "") -> list[str]:
    """A flag and its value, where that is stated; by default under the flag's own name."""
    value = stated.get(name or flag.removeprefix("--"))
    return [] if value is None else [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def _line(*words: str) -> str:
    return shlex.join(words)


def _literal(value: object) -> str:
    """As Python and people write it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)
