"""VNNLIB: specification files as queries.

A file declares inputs and outputs and asserts what a **violation** looks like: bounds of inputs and linear conditions
on inputs or on outputs, combined with ``and`` and ``or``. It is brought into a disjunction of conjunctions; what a
conjunction says of the inputs makes its region, what it says of the outputs its clause, and clauses of the same region
are one case of the query. Numbers are the rationals that their decimals denote.

Version 1 declares scalars ``X_i`` and ``Y_i``. Of version 2 the linear part about one network with one input and one
output of type ``real`` is read: tensors are declared with names and shapes, and indexed in C order.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import re
import zlib
from pathlib import Path

from networks.conditions import Variable
from networks.errors import VnnlibError
from networks.forms import Form, Source, shown_form
from networks.property import Query
from networks.specification import WORDS, Specification

__all__ = ["parse_vnnlib", "read_vnnlib"]

MAX_BYTES = 256 * 2**20
"""Limit on a specification's size after decompression."""

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]*)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VERSION = re.compile(r"<([0-9]+)\.([0-9]+)>")
_TENSOR = re.compile(r"([A-Za-z][A-Za-z0-9_]*) ?\[([^\]]*)\]")
_IGNORED = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"})


def read_vnnlib(path: str | Path, inputs: int, outputs: int) -> Query:
    """Read a specification from a file.

    Args:
        path: a ``.vnnlib`` or ``.vnnlib.gz`` file.
        inputs, outputs: the network's numbers of inputs and outputs.

    Raises:
        VnnlibError: the file cannot be read or is not about such a network; the message names line and column.
    """
    name = Path(path).name
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        msg = f"there is no specification {path}; give the path of a .vnnlib or .vnnlib.gz file"
        raise VnnlibError(msg) from error
    except (OSError, EOFError, zlib.error) as error:
        msg = f"the specification {name} cannot be read: {error}"
        raise VnnlibError(msg) from error
    if len(data) > MAX_BYTES:
        msg = f"the specification {name} is larger than the limit of {MAX_BYTES} bytes; split it"
        raise VnnlibError(msg)
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        msg = f"the specification {name} is not a text file: {error}"
        raise VnnlibError(msg) from error
    return parse_vnnlib(text, inputs, outputs, name)


def parse_vnnlib(text: str, inputs: int, outputs: int, name: str = "") -> Query:
    """The query that a specification's text states.

    Args:
        text: VNNLIB 1.0, or the part of VNNLIB 2 that this module's docstring names.
        inputs, outputs: the network's numbers of inputs and outputs.
        name: how messages and reports call the specification.

    Raises:
        VnnlibError: it is not VNNLIB; it declares variables that the network does not have, leaves inputs unbounded or
            bounds them to nothing, or relates inputs to outputs. The message names line and column.
    """
    source = Source(text, name or "the specification")
    forms = source.forms()
    first = next(forms, None)
    rest = itertools.chain([] if first is None else [first], forms)
    modern = first is not None and first.items[:1] in (["vnnlib-version"], ["declare-network"])
    reader = _Tensors(source, inputs, outputs) if modern else _Scalars(source, inputs, outputs)
    return reader.query(rest)


class _Scalars(Specification):
    """VNNLIB 1.0."""

    def __init__(self, source: Source, inputs: int, outputs: int) -> None:
        super().__init__(source, inputs, outputs)
        self.places: dict[str, Form] = {}

    def command(self, head: str, form: Form) -> None:
        if head in ("declare-const", "declare-fun"):
            self.declare(form)
        elif head in ("vnnlib-version", "declare-network"):
            self.source.fail(form, f"{head} belongs to VNNLIB 2 and has to come first", 0)
        elif head not in _IGNORED:
            known = "declare-const, declare-fun and assert are known"
            self.source.fail(form, f"unknown command {shown_form(form)}; {known}")

    def declare(self, form: Form) -> None:
        items = form.items
        expected = 3 if items[0] == "declare-const" else 4
        match = _VARIABLE.fullmatch(items[1]) if len(items) > 1 and isinstance(items[1], str) else None
        if len(items) != expected or match is None or items[-1] != "Real":
            got = shown_form(form)
            self.source.fail(form, f"expected (declare-const X_0 Real) with a name X_i or Y_i, got {got}")
        name = match[0]
        if name in self.variables:
            self.source.fail(form, f"{name} is declared twice", 1)
        kind, index = match[1], int(match[2])
        size = self.sizes[kind]
        if index >= size:
            self.source.fail(
                form,
                f"{name} is declared, but the network has {size} {WORDS[kind]}, {kind}_0 to {kind}_{size - 1}; is this "
                "the specification of another network?",
                1,
            )
        self.variables[name] = (kind, index)
        self.places[name] = form

    def finish_declarations(self, form: Form) -> None:
        for kind, size in self.sizes.items():
            count = sum(k == kind for k, _ in self.variables.values())
            if count != size:
                self.source.fail(
                    form,
                    f"{count} {WORDS[kind]} {kind}_i are declared before the first assert, but the network has {size}; "
                    "declare all of them, or is this the specification of another network?",
                )

    def input_place(self, index: int) -> tuple[Form | int, str]:
        return self.places[f"X_{index}"], f"X_{index}"


class _Tensors(Specification):
    """The linear part of VNNLIB 2 about one network."""

    equality = "=="

    def __init__(self, source: Source, inputs: int, outputs: int) -> None:
        super().__init__(source, inputs, outputs)
        self.network: Form | None = None
        #: Shape of each tensor, and "X" or "Y", by its name.
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.input: tuple[Form, str, tuple[int, ...]] | None = None

    def command(self, head: str, form: Form) -> None:
        if head == "vnnlib-version":
            version = form.items[1] if len(form.items) == 2 else ""
            match = _VERSION.fullmatch(version) if isinstance(version, str) else None
            if match is None or match[1] != "2":
                self.source.fail(form, f"expected (vnnlib-version <2.0>), got {shown_form(form)}")
        elif head == "declare-network":
            if self.network is not None:
                self.source.fail(
                    form,
                    "a second network is declared, which is not supported; ask about two networks, or two inputs of "
                    "one, by networks.equivalence and networks.monotone",
                )
            self.network = form
            self.declare(form)
        else:
            known = "vnnlib-version, declare-network and assert are known"
            self.source.fail(form, f"unknown command {shown_form(form)}; {known}")

    def declare(self, form: Form) -> None:
        """Takes (declare-network f (declare-input X real [5]) (declare-output Y real [2]))."""
        if len(form.items) < 2 or not isinstance(form.items[1], str) or not _NAME.fullmatch(form.items[1]):
            self.source.fail(form, f"expected (declare-network name …), got {shown_form(form)}")
        for item in form.items[2:]:
            head = item.items[0] if isinstance(item, Form) and item.items else None
            if not isinstance(item, Form) or head not in ("declare-input", "declare-output"):
                reasons = {
                    "declare-hidden": "constraints of hidden nodes are not supported; make the node an output",
                    "equal-to": "one network is supported; use networks.monotone or networks.equivalence",
                    "isomorphic-to": "one network is supported; use networks.equivalence",
                }
                reason = reasons.get(str(head), f"expected declare-input or declare-output, got {shown_form(item)}")
                self.source.fail(item if isinstance(item, Form) else form, reason)
            self.declare_tensor(item, "X" if head == "declare-input" else "Y")
        for kind, word in WORDS.items():
            if all(k != kind for k, _ in self.tensors.values()):
                self.source.fail(form, f"the network declares no {word}; one tensor of each is needed")

    def variable(self, word: str) -> Variable | None:
        """``X[0,2]`` for an element, ``X`` for a scalar."""
        if word in self.variables:
            return self.variables[word]
        name, bracket, rest = word.partition("[")
        if name.strip() not in self.tensors:
            return None
        kind, shape = self.tensors[name.strip()]
        places = [text.strip() for text in rest.rstrip("]").split(",")] if bracket else []
        if len(places) != len(shape) or not all(text.isdecimal() for text in places):
            return None
        index = 0
        for text, size in zip(places, shape, strict=True):
            if int(text) >= size:
                return None
            index = index * size + int(text)
        self.variables[word] = kind, index
        return kind, index

    def declare_tensor(self, form: Form, kind: str) -> None:
        # The shape stands in brackets after the type, of which it is part of the word.
        words = [item for item in form.items if isinstance(item, str)]
        match = _TENSOR.fullmatch(" ".join(words[2:3]).replace("\n", " ")) if len(words) == len(form.items) else None
        named = words[3:]
        if match is None or not _NAME.fullmatch(words[1]) or len(named) > 1 or any(n[0] != '"' for n in named):
            self.source.fail(form, f"expected ({form.items[0]} name real [shape]), got {shown_form(form)}")
        name, element, dims = words[1], match[1], match[2].replace(" ", "")
        if element.lower() != "real":
            self.source.fail(
                form,
                f"{name} has the type {element}, which asks for a proof about its rounding; proofs here are about real "
                "arithmetic, so declare it as real",
            )
        if name in self.tensors or any(k == kind for k, _ in self.tensors.values()):
            self.source.fail(
                form, f"{name} is declared twice, or is a second tensor of {WORDS[kind]}; one is supported"
            )
        try:
            shape = tuple(int(d) for d in dims.split(",")) if dims else ()
        except ValueError:
            shape = (0,)
        if any(d < 1 for d in shape):
            self.source.fail(form, f"the shape of {name} is a list of positive numbers, got [{dims}]")
        if math.prod(shape) != self.sizes[kind]:
            self.source.fail(
                form,
                f"{name} has {math.prod(shape)} entries, but the network has {self.sizes[kind]} {WORDS[kind]}; is this "
                "the specification of another network?",
            )
        self.tensors[name] = (kind, shape)
        if kind == "X":
            self.input = form, name, shape

    def finish_declarations(self, form: Form) -> None:
        if self.network is None:
            self.source.fail(form, "no network is declared before the first assert")

    def input_place(self, index: int) -> tuple[Form | int, str]:
        assert self.input is not None
        form, name, shape = self.input
        place = []
        for size in reversed(shape):
            index, k = divmod(index, size)
            place.append(k)
        return form, f"{name}[{','.join(map(str, reversed(place)))}]" if shape else name
