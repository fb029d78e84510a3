"""Forms: what was typed, what is wrong with it, and beside which field that is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

__all__ = ["UNPLACED", "Answers", "fault"]

#: Where templates show what belongs to no field.
UNPLACED = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The texts of a form's fields, and what is wrong, by field.

    Attributes:
        texts: as they were typed; a field that is missing reads as empty.
        wrong: messages by field; those under `UNPLACED` stand above the form.
        title: what the problem is called.
        status: of the page that shows it.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, list[str]] = field(default_factory=dict)
    title: str = "Something is missing or wrong"
    status: int = 200

    def __getitem__(self, name: str) -> str:
        return self.texts.get(name, "")

    def but(self, **texts: str) -> Self:
        """These answers with other texts in some fields."""
        return type(self)({**self.texts, **texts}, self.wrong, self.title, self.status)

    def refused(self, answer: httpx.Response | Mapping[str, Any], fields: Mapping[str, str]) -> Self:
        """These answers with what a problem says, each fault beside its field.

        Args:
            answer: the API's, or the problem document.
            fields: from beginnings of JSON pointers to fields; a fault that none fits stands above the form.
        """
        document = answer.json() if isinstance(answer, httpx.Response) else answer
        wrong: dict[str, list[str]] = {}
        for each in document.get("errors", ()):
            pointer = each["pointer"]
            place = next((name for start, name in fields.items() if pointer.startswith(start)), UNPLACED)
            message = each["detail"] if place else f"{pointer.lstrip('/')}: {each['detail']}"
            wrong.setdefault(place, []).append(message)
        if not wrong:
            wrong[UNPLACED] = [document["detail"]]
        return type(self)(self.texts, wrong, document["title"], int(document["status"]))


def fault(**wrong: str) -> dict[str, Any]:
    """A problem document of what the form itself finds wrong, by field."""
    errors = [{"pointer": name, "detail": detail} for name, detail in wrong.items()]
    return {"title": "Something is missing or wrong", "status": 422, "detail": "", "errors": errors}
