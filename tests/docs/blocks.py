"""Reading the code blocks of a page, and comparing what a command said with what the page says.

A page is read from top to bottom as one session in a folder of its own. The word after the fence says what is done:

* ``console``: lines that begin with ``$`` are commands, the others what they print; decimals may differ, ``…`` ends a
  line that goes on, or stands alone for any number of lines;
* ``bash``: a script that must succeed; what it assigns is there for the next one;
* ``python``: executed, with the names of the blocks before it;
* ``json``, ``yaml``, ``toml``: must be well-formed;
* ``text``: not a program;
* a second word is the name of a file that the block is put into, and ``not run: why`` an exception that needs a reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LANGUAGES", "Block", "Call", "blocks", "calls", "differs"]

LANGUAGES = frozenset({"bash", "console", "python", "json", "yaml", "toml", "text"})

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_DECIMAL = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: its file; ``line`` is where the block begins.
        language: first word after the fence.
        note: the rest of that line: a file's name, or why it is not run.
    """

    page: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def exempt(self) -> str | None:
        """Why it is not run, if it is not."""
        found = re.fullmatch(r"not run: (.+)", self.note)
        return found and found[1]


@dataclass(frozen=True)
class Call:
    """A command of a console block and the lines that it is said to print."""

    command: str
    said: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """The page's blocks in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, note = match["info"].strip().partition(" ")
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(page, text[: match.start()].count("\n") + 1, language, note.strip(), body))
    return found


def calls(block: Block) -> list[Call]:
    """The commands of a console block, each with the lines up to the next one."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0][:-1]} {line.strip()}", [])
        elif found:
            found[-1][1].append(line.rstrip())
        else:
            msg = f"{block.place}: a console block begins with a command, not with {line!r}"
            raise ValueError(msg)
    return [Call(command, tuple(said)) for command, said in found]


def differs(said: tuple[str, ...], printed: str) -> str | None:
    """The first line of the page that was not printed, None if all were, in order and with nothing between them."""
    lines = [line.rstrip() for line in printed.splitlines()]
    at, anywhere = 0, False
    for line in said:
        if line.strip() == "…":
            anywhere = True
            continue
        pattern = _pattern(line)
        end = len(lines) if anywhere else at + 1
        found = next((place for place in range(at, min(end, len(lines))) if pattern.fullmatch(lines[place])), None)
        if found is None:
            return line
        at, anywhere = found + 1, False
    return None


def _pattern(line: str) -> re.Pattern[str]:
    loose = re.escape(_DECIMAL.sub("\0", line)).replace(re.escape("\0"), _DECIMAL.pattern)
    return re.compile(loose.replace("…", ".*"))
