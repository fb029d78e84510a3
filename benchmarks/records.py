"""What became of an instance: judged against the truth, and kept in a CSV file from which a run can be resumed."""

from __future__ import annotations

import csv
import enum
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self, TypeAlias

from benchmarks.instances import TOOLS, Instance

__all__ = ["Answer", "Judgement", "Record", "Spread", "Summary", "append", "judge", "read_records"]


class Answer(enum.StrEnum):
    """How a run ended."""

    ROBUST = "robust"
    COUNTEREXAMPLE = "counterexample"
    UNKNOWN = "unknown"
    REFUSED = "refused"  #: the network or the specification is not supported, and a message said so
    CRASHED = "crashed"  #: an exception that is no message to the user, or a signal
    OVERTIME = "overtime"  #: it did not end by itself when its time was over


class Judgement(enum.StrEnum):
    """What the answer is worth."""

    SOLVED = "solved"
    WRONG = "wrong"  #: contradicts a firm truth
    DISPUTED = "disputed"  #: contradicts an answer that is not firm
    UNKNOWN = "unknown"
    REFUSED = "refused"
    CRASHED = "crashed"


_UNDECIDED = {
    Answer.UNKNOWN: Judgement.UNKNOWN,
    Answer.OVERTIME: Judgement.UNKNOWN,
    Answer.REFUSED: Judgement.REFUSED,
    Answer.CRASHED: Judgement.CRASHED,
}


def judge(answer: Answer, truth: str, *, firm: bool) -> Judgement:
    """What ``answer`` is worth if ``truth`` (``robust``, ``counterexample`` or "") is known, and how firmly."""
    if answer in _UNDECIDED:
        return _UNDECIDED[answer]
    if truth in {"", answer}:
        return Judgement.SOLVED
    return Judgement.WRONG if firm else Judgement.DISPUTED


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the results.

    Attributes:
        family, onnx, vnnlib: the instance.
        truth, firm: what is known of it.
        allowed: seconds that the run was given.
        answer, judgement: how it ended, and what that is worth.
        seconds: for the decision; until it was stopped where it did not end by itself.
        load_seconds, read_seconds: for the network and for the specification, not part of ``seconds``.
        decided_by, reason: the stage that decided, or why nothing did.
        lower, upper: proven lower and replayed upper bound of the margin; infinite where nothing is known.
        megabytes: peak of resident memory.
        stages: the stages' seconds, as ``name=seconds`` separated by blanks.
        detail: the message of a refusal, the last lines of a crash.
    """

    family: str
    onnx: str
    vnnlib: str
    truth: str
    firm: bool
    allowed: float
    answer: Answer
    judgement: Judgement
    seconds: float = 0.0
    load_seconds: float = 0.0
    read_seconds: float = 0.0
    decided_by: str = ""
    reason: str = ""
    lower: float = float("-inf")
    upper: float = float("inf")
    megabytes: int = 0
    stages: str = ""
    detail: str = ""

    @classmethod
    def of_row(cls, row: dict[str, str]) -> Self:
        """The record that `append` wrote as ``row``."""
        read = {field.name: _READERS[str(field.type)](row[field.name]) for field in fields(cls)}
        return cls(**read)  # type: ignore[arg-type]

    @property
    def key(self) -> tuple[str, str, str]:
        """The instance's key."""
        return self.family, self.onnx, self.vnnlib

    def stands(self, allowed: float) -> bool:
        """Whether a run with ``allowed`` seconds would bring nothing new."""
        decided = self.answer in {Answer.ROBUST, Answer.COUNTEREXAMPLE}
        return self.seconds <= allowed if decided else self.allowed >= allowed


_READERS: dict[str, Callable[[str], object]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": lambda text: text == "True",
    "Answer": Answer,
    "Judgement": Judgement,
}


def append(path: Path, record: Record) -> None:
    """Add a line to the results, and a header to a new file; it is on disk when this returns."""
    row = asdict(record)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_records(path: Path) -> list[Record]:
    """The records of a file, none if it does not exist yet; the last one counts where an instance has several.

    Raises:
        ValueError: the file is not one that `append` wrote.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        records = [Record.of_row(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path} is not a file of results: {error!r}; give one that this command wrote, or a new name"
        raise ValueError(msg) from error
    return list({record.key: record for record in records}.values())


@dataclass(frozen=True, slots=True)
class Spread:
    """How many were solved, and the mean, median and greatest of their seconds (NaN when none was)."""

    solved: int
    mean: float = float("nan")
    median: float = float("nan")
    greatest: float = float("nan")

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        if not seconds:
            return cls(0)
        return cls(len(seconds), statistics.mean(seconds), statistics.median(seconds), max(seconds))


Pair: TypeAlias = tuple[Instance, Record]


@dataclass(frozen=True, slots=True)
class Summary:
    """Many instances in one row.

    Attributes:
        instances: how many were run.
        counts: how many were judged how.
        own: seconds of those solved.
        published: the same for other tools, on the same instances and within the seconds that the run had.
    """

    instances: int
    counts: dict[Judgement, int]
    own: Spread
    published: dict[str, Spread]

    @classmethod
    def of(cls, pairs: Iterable[Pair], tools: Iterable[str] = TOOLS) -> Self:
        """The summary of instances with their records, beside ``tools``."""
        pairs = list(pairs)
        counts = dict.fromkeys(Judgement, 0)
        for _, record in pairs:
            counts[record.judgement] += 1
        return cls(
            len(pairs),
            counts,
            Spread.of(solved_seconds(pairs)),
            {tool: Spread.of(published_seconds(pairs, tool)) for tool in tools},
        )


def solved_seconds(pairs: Iterable[Pair]) -> list[float]:
    """Seconds of what was solved."""
    return [record.seconds for _, record in pairs if record.judgement is Judgement.SOLVED]


def published_seconds(pairs: Iterable[Pair], tool: str) -> list[float]:
    """Seconds that another tool took, where it decided within the seconds that our run had."""
    seconds = [(i.published.get(tool), record.allowed) for i, record in pairs]
    return [taken for taken, allowed in seconds if taken is not None and taken <= allowed]
