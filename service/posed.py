"""Questions as they go into the ledger, and the JSON that they are written as."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from service.reuse import Asked, asked

__all__ = ["Posed", "Written", "to_json"]


def to_json(value: Any) -> str:
    """``value`` as JSON columns hold it; a `Written` is not written again."""
    if isinstance(value, Written):
        return value.text
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


class Written(dict[str, Any]):
    """A mapping that knows its JSON; nobody may change it.

    Attributes:
        text: the JSON.
    """

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(members)
        self.text = to_json(members)


@dataclass(frozen=True, slots=True)
class Posed:
    """A question that was read, and fits its network.

    Attributes:
        request: as `service.admission.admit` completes it.
        asked: what its answer is looked up by; None where it is to be decided anew.
    """

    request: Written
    asked: Asked | None

    @classmethod
    def of(cls, request: dict[str, Any]) -> Self:
        """The question of an admitted request."""
        return cls(Written(request), asked(request) if request["reuse"] else None)
