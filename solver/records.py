"""Audit records in a file of JSON lines, which a later run can continue.

The first line says what was asked: ``{"audit": {"version", "network", "data", "query"}}``. Every other line is one
input's record, written and flushed as soon as it is known; no input occurs twice. Only the question decides whether a
file can be continued: the indices, the engine and the time limit may change from run to run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from networks.dataset import Dataset
from networks.exact import exact
from networks.graph import Network
from solver.audit import Ball, Record
from solver.errors import RecordsError

__all__ = ["RecordFile", "heading", "read_records"]

VERSION = 1


def heading(network: Network, dataset: Dataset, ball: Ball) -> dict[str, Any]:
    """The first line of a file of records, as a JSON object."""
    query: dict[str, Any] = {"kind": "ball", "norm": ball.norm, "epsilon": str(ball.epsilon)}
    if ball.domain is not None:
        query["domain"] = [str(end) for end in ball.domain]
    return {
        "audit": {
            "version": VERSION,
            "network": {"name": network.name, "sha256": network.sha256},
            "data": {"name": dataset.name, "sha256": dataset.sha256},
            "query": query,
        }
    }


def read_records(path: Path) -> tuple[dict[str, Any] | None, list[Record]]:
    """The `heading` of a file of records, if it has one, and its records in their order.

    A batch that was exported as JSON lines is read as well: it has no heading, and one record for each item, those
    without a verdict included. A last line that is not complete is left out: a run may be writing it.

    Raises:
        RecordsError: it is not a file of records.
        OSError: it cannot be read.
    """
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    lines = [_parse(path, number, line) for number, line in enumerate(whole.split("\n"), 1)] if whole else []
    head = lines.pop(0) if lines and "audit" in lines[0] else None
    for number, record in enumerate(lines, 1 if head is None else 2):
        if not isinstance(record.get("index"), int) or "verdict" not in record:
            msg = f"line {number} of {path} is not an audit record; it needs an index and a verdict"
            raise RecordsError(msg)
    return head, lines


@dataclass(eq=False)
class RecordFile:
    """An open file of records, held by this process alone; a context manager.

    Attributes:
        path: where it is.
        known: the records that an earlier run left, by index.
    """

    path: Path
    known: dict[int, Record]
    _stream: TextIO = field(repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        head: dict[str, Any],
        *,
        resume: bool,
        engine: str,
        limit: float,
        certificates: Path | None = None,
    ) -> Self:
        """Opens ``path``, new or, with ``resume``, to be continued.

        A line that a killed run left unfinished is removed. An input that ended ``unknown`` on another engine or
        within less time than ``limit`` will be decided again, so its record is removed too; and so is that of a robust
        input that nobody has tried to certify, where ``certificates`` are wanted.

        Args:
            path: the file.
            head: its `heading`.
            resume: whether the file may hold records already.
            engine: the engine of this run.
            limit: its time limit for each input, in seconds.
            certificates: the folder of its certificates, None if it asks for none.

        Raises:
            RecordsError: the file belongs to another question, or to a run that is still at work, or is not a file of
                records, or there are records in it that ``resume`` does not ask to continue.
            OSError: it cannot be read or written.
        """
        stream: TextIO = path.open("a+", encoding="utf-8")
        try:
            _lock(stream, path)
            stream.seek(0)
            text = stream.read()
            if text and not resume:
                msg = f"{path} has records already; resume it, or name another file"
                raise RecordsError(msg)
            whole, _, _ = text.rpartition("\n")
            first, *rest = whole.split("\n") if whole else [""]
            if whole or not json.dumps(head).startswith(text):
                _compare(path, _parse(path, 1, first or text), head)
            known = dict(_records(path, rest))
            kept = {i: r for i, r in known.items() if not _again(r, engine, limit, certificates)}
            if not first or len(kept) < len(known) or len(text) > len(whole) + 1:
                stream = _rewritten(stream, path, [head, *kept.values()])
        except BaseException:
            stream.close()
            raise
        return cls(path, kept, stream)

    def append(self, record: Record) -> None:
        """Writes one record, through to the operating system."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(stream: TextIO, path: Path) -> None:
    """Holds the file until it is closed, so that two audits cannot write the same records."""
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"another audit is writing {path}; wait for it, or name another file"
        raise RecordsError(msg) from error
    except OSError:
        return  # a file system or device without locks


def _rewritten(stream: TextIO, path: Path, lines: list[dict[str, Any]]) -> TextIO:
    """The file with ``lines`` as its content: all or, if interrupted, still what it was."""
    target = path.resolve()  # a link stays a link
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    fresh = temporary.open("w", encoding="utf-8")
    try:
        _lock(fresh, path)
        fresh.writelines(json.dumps(line) + "\n" for line in lines)
        fresh.flush()
        temporary.replace(target)
    except BaseException:
        fresh.close()
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    stream.close()
    return fresh


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        msg = f"line {number} of {path} is not a JSON object; it is not a file of audit records, or it is damaged"
        raise RecordsError(msg)
    return value


def _records(path: Path, lines: list[str]) -> Iterator[tuple[int, Record]]:
    seen: set[int] = set()
    for number, line in enumerate(lines, 2):
        record = _parse(path, number, line)
        index = record.get("index")
        if not isinstance(index, int) or "verdict" not in record or not isinstance(record.get("seconds"), int | float):
            msg = f"line {number} of {path} is not an audit record; it needs an index, a verdict and its seconds"
            raise RecordsError(msg)
        if index in seen:
            msg = f"line {number} of {path} is a second record of input {index}; remove one of them"
            raise RecordsError(msg)
        seen.add(index)
        yield index, record


def _again(record: Record, engine: str, limit: float, certificates: Path | None) -> bool:
    """Whether an earlier record is worth another try."""
    more = record.get("engine") != engine or float(record.get("limit") or 0) < limit
    if record["verdict"] == "unknown":
        return more
    if record["verdict"] != "robust" or certificates is None:
        return False
    if record.get("trust") == "certified":
        return not (certificates / str((record.get("certificate") or {}).get("file"))).exists()
    tried = any(stage.get("name") == "certificate" for stage in record.get("stages", []))
    return more or not tried


def _compare(path: Path, given: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuses a file about another question, and says in what it differs."""
    audit, ours = given.get("audit"), expected["audit"]
    if not isinstance(audit, dict):
        msg = f"{path} is not a file of audit records: its first line must say what was asked"
        raise RecordsError(msg)
    if audit.get("version") != VERSION:
        msg = (
            f"{path} has version {audit.get('version')} of the format, this netproof reads {VERSION}; name another file"
        )
        raise RecordsError(msg)
    try:
        facts = [
            ("network", _named(audit["network"]), _named(ours["network"])),
            ("data set", _named(audit["data"]), _named(ours["data"])),
            ("norm", audit["query"]["norm"], ours["query"]["norm"]),
            ("epsilon", audit["query"]["epsilon"], ours["query"]["epsilon"]),
            ("domain", audit["query"].get("domain"), ours["query"].get("domain")),
        ]
        differing = [fact for fact in facts if _value(fact[1]) != _value(fact[2])]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"the first line of {path} does not say what was asked; it is not a file of audit records"
        raise RecordsError(msg) from error
    if differing:
        parts = "; ".join(f"{name} {theirs or 'none'} there, {mine or 'none'} here" for name, theirs, mine in differing)
        msg = f"{path} holds the records of another audit: {parts}. Name another file, or ask the same again"
        raise RecordsError(msg)


def _named(file: dict[str, str]) -> str:
    return f"{file['name']} ({file['sha256'][:12]})"


def _value(fact: Any) -> Any:
    """What is compared: numbers by value, files by their hash."""
    if isinstance(fact, list):
        return [_value(entry) for entry in fact]
    if isinstance(fact, str) and fact.endswith(")"):
        return fact.rpartition(" ")[2]
    try:
        return exact(fact)
    except ValueError:
        return fact
