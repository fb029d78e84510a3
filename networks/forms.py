"""Parenthesised text, as VNNLIB has it: to nested forms, and back to lines and columns for messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from networks.errors import VnnlibError

__all__ = ["Expression", "Form", "Source", "shown_form"]

_MAX_DEPTH = 100
# Parentheses; words, where an index in brackets belongs to the word before it; brackets alone; strings; comments.
_TOKEN = re.compile(r'[()]|[^\s()\[\]";]+(?:\s*\[[^\[\]()";]*\])?|\[[^\[\]()";]*\]|"[^"\n]*"|;[^\n]*|[\[\]"]')


@dataclass(slots=True)
class Form:
    """``( … )``: ``at`` is the number of its opening token, ``items`` are words and forms."""

    at: int
    items: list[str | Form] = field(default_factory=list)


Expression: TypeAlias = "str | Form"


class Source:
    """A text, its forms, and where they stand."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name

    def forms(self) -> Iterator[Form]:
        """The forms that stand in no other, one by one.

        Raises:
            VnnlibError: parentheses do not match or are nested too deeply, or a word stands outside of them.
        """
        stack: list[Form] = []
        for number, word in enumerate(_TOKEN.findall(self.text)):
            if word == "(":
                if len(stack) >= _MAX_DEPTH:
                    self.fail(number, f"parentheses nested deeper than {_MAX_DEPTH}")
                stack.append(Form(number))
            elif word == ")":
                if not stack:
                    self.fail(number, "a closing parenthesis without an opening one")
                form = stack.pop()
                if stack:
                    stack[-1].items.append(form)
                else:
                    yield form
            elif word[0] == ";":
                continue
            elif stack:
                stack[-1].items.append(word)
            else:
                self.fail(number, f"{word[:40]!r} outside of parentheses; this is not VNNLIB")
        if stack:
            self.fail(stack[0].at, "the parenthesis that opens here is never closed; is the file truncated?")

    def fail(self, place: int | Form, reason: str, item: int | None = None) -> NoReturn:
        """Refuses the text because of the token of this number, of this form, or of an item in it.

        Raises:
            VnnlibError: always; the message names line and column.
        """
        number = place if isinstance(place, int) else place.at if item is None else self._item(place, item)
        at = 0
        for k, match in enumerate(_TOKEN.finditer(self.text)):
            if k == number:
                at = match.start()
                break
        line, column = self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)
        msg = f"{self.name}, line {line}, column {column}: {reason}"
        raise VnnlibError(msg)

    def _item(self, form: Form, index: int) -> int:
        """The number of the token that an item of a form starts with."""
        item = form.items[index]
        if isinstance(item, Form):
            return item.at
        depth, seen = 0, -1
        for k, match in enumerate(_TOKEN.finditer(self.text)):
            word = match[0]
            if k <= form.at or word[0] == ";":
                continue
            if depth == 0 and word != ")":
                seen += 1
                if seen == index:
                    return k
            depth += (word == "(") - (word == ")")
        return form.at


def shown_form(expression: Expression) -> str:
    """The expression as text, cut short for messages."""
    if isinstance(expression, str):
        text = expression
    else:
        text = f"({' '.join(shown_form(item) for item in expression.items[:6])})"
    return text if len(text) <= 60 else f"{text[:57]}..."
