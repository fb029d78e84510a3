"""Instances with known answers: the rows of ``ground_truth.csv`` in the data folder.

One row is one instance of one set: an ONNX file, a VNNLIB file, a time limit, the answer that the published tools agree
on (``sat`` where a counterexample exists), how firmly, and the seconds that each tool took, its start-up included.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

__all__ = ["TOOLS", "Instance", "UnknownSetError", "read_instances", "select"]

#: The published tools whose seconds tables and plots show; how much each of the others solved is shown too.
TOOLS = ("alpha_beta_crown", "nnenum", "verinet", "marabou")

#: How an answer must have come about to be relied on: a counterexample was checked, or several tools agree.
FIRM = frozenset({"cex_checked", "agreed"})

_ANSWERS = {"sat": "counterexample", "unsat": "robust"}


class UnknownSetError(LookupError):
    """A set that the data folder does not have; the message lists those that it has."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One query whose answer is known more or less firmly.

    Attributes:
        family: the set that it belongs to.
        onnx, vnnlib: paths relative to the set's folder.
        limit: seconds that the set allows.
        truth: ``robust``, ``counterexample``, or "" where nothing is known.
        firm: whether the truth can be relied on.
        published: seconds by tool (the columns ``t_*``), for those that decided it and are not known to have erred.
    """

    family: str
    onnx: str
    vnnlib: str
    limit: float
    truth: str = ""
    firm: bool = False
    published: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Self:
        """The instance that a row of the table describes."""
        # Written as tool@year=answer, separated by semicolons.
        erred = {entry.partition("@")[0].partition("=")[0] for entry in row.get("dissenters", "").split(";")}
        published = {}
        for column, text in row.items():
            tool = column.removeprefix("t_")
            # Besides numbers there are words such as timeout, and nothing where the tool did not take part.
            with contextlib.suppress(ValueError):
                if tool != column and tool not in erred:
                    published[tool] = float(text)
        truth = _ANSWERS.get(row["consensus"], "")
        firm = bool(truth) and row["confidence"] in FIRM
        return cls(row["set"], row["onnx"], row["vnnlib"], float(row["timeout"]), truth, firm, published)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells instances apart."""
        return self.family, self.onnx, self.vnnlib

    @property
    def name(self) -> str:
        """Its two files, without folders and endings."""
        return " ".join(Path(path).name.partition(".onnx")[0].partition(".vnnlib")[0] for path in self.key[1:])


def read_instances(folder: Path) -> list[Instance]:
    """All instances of the data folder, in the table's order.

    Raises:
        FileNotFoundError: the folder has no such table.
    """
    with (folder / "ground_truth.csv").open(newline="") as file:
        return [Instance.of(row) for row in csv.DictReader(file)]


def select(
    instances: Iterable[Instance], sets: Sequence[str] | None, *, only_firm: bool = False, containing: str = ""
) -> list[Instance]:
    """The instances of some sets, in the order in which the sets are named; of all sets when ``sets`` is None.

    Args:
        instances: where to choose from.
        sets: names of sets.
        only_firm: leave out instances whose answer is not firm.
        containing: text that the instance's name must contain.

    Raises:
        UnknownSetError: a set that has no instance.
    """
    families: dict[str, list[Instance]] = {}
    for instance in instances:
        families.setdefault(instance.family, []).append(instance)
    chosen = []
    for name in dict.fromkeys(families if sets is None else sets):
        if name not in families:
            msg = f"there is no set {name!r}; there are {', '.join(sorted(families))}"
            raise UnknownSetError(msg)
        chosen += [i for i in families[name] if (i.firm or not only_firm) and containing in i.name]
    return chosen
