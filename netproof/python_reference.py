"""The page about Python, written from signatures and docstrings: ``docs/python-api.md``.

What a function or class says of itself is taken as it is: paragraphs, examples (which the tests of the manual run), and
the sections ``Args``, ``Attributes``, ``Returns`` and ``Raises`` as tables.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

__all__ = ["python_page"]

#: What the page describes, by its headings: modules and their names.
_PARTS: dict[str, dict[str, list[str]]] = {
    "Asking on this machine": {
        "netproof": ["verify", "ranges", "universal", "audit", "largest_epsilons", "check"],
    },
    "Networks and questions": {
        "netproof": ["load", "from_torch", "read_vnnlib", "Network", "Region", "Property", "Query"],
        "networks": ["Constraint", "Dataset", "OutputRange", "equivalence", "monotone", "Product"],
    },
    "Answers": {
        "netproof": ["Verdict", "Range", "Audit", "CertifiedRadius", "Progress"],
        "solver": ["Outcome", "Trust", "Reason", "Counterexample", "Stage"],
        "certificates": ["Report"],
    },
    "How to decide": {
        "netproof": ["Options", "Budget"],
        "solver": ["Engine", "Backend", "Kind"],
    },
    "Asking a service": {
        "netproof": ["Client", "AsyncClient"],
        "netproof.client": ["Job", "Event", "Batches", "Batch"],
    },
    "Errors": {"netproof": ["NetproofError", "InputError"]},
}
#: Modules whose docstrings draw a tree of errors.
_TREES = ("networks.errors", "solver.errors", "netproof.answers")
#: What says "see Client.x" for every x.
_BRIEF = {"AsyncClient"}
#: What users are handed and never make.
_GIVEN = {"Batch", "Batches", "Event", "Job"}
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$")
_ITEM = re.compile(r"^(\w+(?:, \w+)*): (.*)$")
_WIDTH = 110

Rows: TypeAlias = list[tuple[str, str]]


@dataclass
class _Doc:
    """A docstring in parts.

    Attributes:
        body: Markdown before the sections.
        tables: by section, names and texts; of ``Returns``, one text without a name.
    """

    body: str = ""
    tables: dict[str, Rows] = field(default_factory=dict)


def python_page() -> str:
    """Every public name of ``netproof`` and what its answers are made of, in Markdown."""
    lines = [
        "# Python",
        "",
        "Written by `make reference` from the program's own signatures and docstrings. `import netproof` is light:",
        "names are imported when they are first used. `netproof.__version__` is the version. [Asking](asking.md) has",
        "an example of each question, [the Python client](python-client.md) a tour of the client.",
    ]
    for title, modules in _PARTS.items():
        lines += ["", f"## {title}"]
        for module, names in modules.items():
            for name in names:
                lines += ["", *_entry(module, name)]
    for name in _TREES:
        lines += ["", f"Those of `{name}`:", "", "```text", *_tree(name), "```"]
    return "\n".join(lines) + "\n"


def _tree(module: str) -> list[str]:
    """The drawing in a module's docstring: its first paragraph with a branch."""
    doc = inspect.getdoc(importlib.import_module(module)) or ""
    return next(part for part in doc.split("\n\n") if "──" in part).splitlines()


def _entry(module: str, name: str) -> Iterator[str]:
    value = getattr(importlib.import_module(module), name)
    doc = _parsed(value)
    yield f"### {module}.{name}"
    yield ""
    if isinstance(value, type) and issubclass(value, enum.Enum):
        yield doc.body
        yield ""
        yield f"One of {', '.join(f'`{member.value}`' for member in value)}."
        return
    signature = _signature(name, value)
    if name in _GIVEN:
        doc.tables.pop("Args", None)
    elif signature:
        yield from ("```text", signature, "```", "")
    yield from _described(doc, value)
    if isinstance(value, type) and name not in _BRIEF:
        yield from _members(name, value)


def _described(doc: _Doc, value: Any) -> Iterator[str]:
    yield doc.body
    types = _types(value)
    for section in ("Args", "Attributes"):
        if rows := doc.tables.get(section):
            yield from ("", f"| {'argument' if section == 'Args' else 'attribute'} | type | |", "|---|---|---|")
            for names, text in rows:
                each = names.split(", ")
                kinds = {types.get(name, "") for name in each}
                kind = kinds.pop() if len(kinds) == 1 else ""
                yield f"| {', '.join(f'`{name}`' for name in each)} | {_code(kind)} | {_cell(text)} |"
    for section in ("Returns", "Yields"):
        for _, text in doc.tables.get(section, []):
            yield from ("", f"{section} {text[0].lower()}{text[1:]}" if text[:1].isupper() else f"{section} {text}")
    if rows := doc.tables.get("Raises"):
        yield from ("", "Raises " + "; ".join(f"`{names}`: {text.rstrip('.')}" for names, text in rows) + ".")


def _members(owner: str, value: type) -> Iterator[str]:
    """Methods and properties that the class documents: those with arguments to explain in full, others in rows."""
    rows: Rows = []
    full: list[str] = []
    for name, raw in vars(value).items():
        is_property = isinstance(raw, property | cached_property)
        method = _function(raw)
        if name.startswith("_") or not inspect.isfunction(method) or not inspect.getdoc(method):
            continue
        doc = _parsed(method)
        shown = name if is_property else _signature(name, method, bound=not isinstance(raw, staticmethod))
        if doc.tables:
            full += ["", f"#### {owner}.{name}", "", "```text", shown, "```", "", *_described(doc, method)]
        else:
            rows.append((" ".join(shown.split()), " ".join(doc.body.split())))
    if rows:
        yield from ("", "| member | |", "|---|---|")
        yield from (f"| {_code(shown)} | {_cell(text)} |" for shown, text in rows)
    yield from full


def _function(raw: Any) -> Any:
    """The function behind what a class has under a name."""
    if isinstance(raw, property):
        return raw.fget
    return raw.func if isinstance(raw, cached_property) else getattr(raw, "__func__", raw)


def _signature(name: str, value: Any, *, bound: bool = False) -> str:
    """How it is called, without types; "" where that is nobody's concern."""
    function: Callable[..., Any] = value
    if isinstance(value, type) and (issubclass(value, Exception) or "__init__" not in vars(value)):
        return ""
    found = inspect.signature(function)
    parameters = list(found.parameters.values())[int(bound) :]
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters if not each.name.startswith("_")]
    plain = str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    plain = re.sub(r"<(?:\w+)\.\w+: ('\w+')>|<factory>", lambda match: match[1] or "…", plain)
    return textwrap.fill(f"{name}{plain}", _WIDTH, subsequent_indent="    ", break_long_words=False)


def _types(value: Any) -> dict[str, str]:
    """Types of arguments or attributes, as they are written."""
    if isinstance(value, type) and issubclass(value, Exception):
        return {}
    found = {each.name: each.annotation for each in inspect.signature(value).parameters.values()}
    found |= getattr(value, "__annotations__", {}) if isinstance(value, type) else {}
    return {name: kind for name, kind in found.items() if isinstance(kind, str)}


def _parsed(value: Any) -> _Doc:
    doc = _Doc()
    body: list[str] = []
    section = ""
    for line in (inspect.getdoc(value) or "").splitlines():
        if found := _SECTION.match(line):
            section = found[1]
            doc.tables[section] = []
        elif section and line.startswith("    "):
            _take(doc.tables[section], section, line)
        elif section and not line:
            continue
        else:
            section = ""
            body.append(line)
    doc.body = "\n".join(_examples(body)).strip()
    return doc


def _take(rows: Rows, section: str, line: str) -> None:
    """Add a line of a section: a new item at its first indentation, else more of the last one."""
    text, depth = line.strip(), len(line) - len(line.lstrip())
    item = _ITEM.match(text) if depth == 4 and section not in {"Returns", "Yields"} else None
    if item:
        rows.append((item[1], item[2]))
    elif rows:
        rows[-1] = (rows[-1][0], f"{rows[-1][1]} {text}")
    else:
        rows.append(("", text))


def _examples(lines: list[str]) -> Iterator[str]:
    """Paragraphs as they are, and examples as blocks of Python with what they print as comments."""
    inside = False
    for line in lines:
        if line.startswith(">>> ") and not inside:
            inside = True
            yield from ("```python",)
        if inside and not line:
            inside = False
            yield "```"
        yield f"# {line}" if inside and not line.startswith((">>>", "...")) else line[4:] if inside else line
        if inside and line.startswith(">>> import "):
            yield ""  # as the formatter has it
    if inside:
        yield "```"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
