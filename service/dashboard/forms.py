"""Forms: what was typed, what is wrong with it, and beside which field that is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from networks.errors import NetproofError
from service.problems import Fault, ProblemError, problem_document

__all__ = ["UNPLACED", "Answers"]

#: Where a template shows what belongs to no field.
UNPLACED = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The texts of a form's fields, and what is wrong, by field.

    Attributes:
        texts: as they were typed; a field that is missing reads as empty.
        wrong: messages by field; those under `UNPLACED` stand above the form.
        title: what the problem is called.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, list[str]] = field(default_factory=dict)
    title: str = "Something is missing or wrong"

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")

    def refused(self, error: NetproofError | ProblemError, fields: Mapping[str, str] | None = None) -> Self:
        """These answers with what a problem says, each fault beside its field.

        Args:
            error: why the form was refused.
            fields: from beginnings of JSON pointers to fields; a fault that no pointer fits stands above the form.
        """
        faults: Iterable[Fault] = error.errors if isinstance(error, ProblemError) else ()
        wrong: dict[str, list[str]] = {}
        for fault in faults:
            place = next((name for start, name in (fields or {}).items() if fault.pointer.startswith(start)), UNPLACED)
            message = fault.detail if place else f"{fault.pointer.lstrip('/')}: {fault.detail}"
            wrong.setdefault(place, []).append(message)
        if not wrong:
            wrong[UNPLACED] = [str(error)]
        return type(self)(self.texts, wrong, str(problem_document(error)["title"]))
