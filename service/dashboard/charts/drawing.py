"""SVG as text: elements, and what a finished chart consists of.

Shapes carry classes and no colours: `static/charts.css` gives them custom properties, so that one drawing serves light,
dark and paper. Every number that becomes a coordinate passes through `coordinate`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["WIDTH", "Chart", "Series", "Table", "coordinate", "element", "svg", "text", "text_width"]

#: Units of every chart's view box. A chart is shown between 320 and 520 pixels wide, so a unit is nearly a pixel.
WIDTH = 440.0
FONT = 14.0
#: The widest of the common interface fonts take this share of the font size for an average character.
_CHARACTER = 0.58


@dataclass(frozen=True, slots=True)
class Series:
    """Something that a chart tells apart from others: the CSS class that colours it, and its name for readers."""

    css: str
    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a chart for those who cannot see it, or want them."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its caption and its numbers; templates print it as it is.

    Attributes:
        title: the caption.
        drawing: the SVG element; "" where there is nothing to draw, and ``note`` says why.
        table: the same as numbers.
        legend: the series that the drawing shows, where there are several.
        note: a sentence below it.
    """

    title: str
    drawing: str
    table: Table = Table((), ())
    legend: Sequence[Series] = field(default=())
    note: str = ""

    def __html__(self) -> str:
        """A ``figure`` element."""
        parts = [f"<figcaption>{escape(self.title)}</figcaption>"]
        if self.legend:
            entries = (f'<li><span class="key {each.css}"></span>{escape(each.name)}</li>' for each in self.legend)
            parts.append(f'<ul class="legend" aria-hidden="true">{"".join(entries)}</ul>')
        parts.append(self.drawing)
        if self.note:
            parts.append(f'<p class="chart-note">{escape(self.note)}</p>')
        if self.table.rows:
            parts.append(_details(self.table, self.title))
        blank = "" if self.drawing else " blank"
        return f'<figure class="chart{blank}">{"".join(parts)}</figure>'


def _details(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        '<details class="chart-data"><summary>Numbers</summary><div class="scroll" tabindex="0" role="group" '
        f'aria-label="{escape(title)}: numbers"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></details>"
    )


def svg(name: str, title: str, description: str, height: float, body: Sequence[str]) -> str:
    """The outer element.

    Args:
        name: begins the identifiers in it, which must be unique on a page.
        title: what assistive technology calls it.
        description: what it shows, in a sentence.
        height: of the view box.
        body: elements.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {coordinate(WIDTH)} {coordinate(height)}" role="img" '
        f'aria-labelledby="{escape(name)}-title {escape(name)}-desc"><title id="{escape(name)}-title">{escape(title)}'
        f'</title><desc id="{escape(name)}-desc">{escape(description)}</desc>{"".join(body)}</svg>'
    )


def element(tag: str, css: str, /, content: str = "", **attributes: float | str) -> str:
    """One element; numbers are coordinates, ``_`` in names stands for ``-``, ``content`` is escaped already."""
    written = "".join(
        f' {key.replace("_", "-")}="{escape(value) if isinstance(value, str) else coordinate(value)}"'
        for key, value in attributes.items()
    )
    return f'<{tag} class="{css}"{written}>{content}</{tag}>' if content else f'<{tag} class="{css}"{written}/>'


def text(x: float, y: float, content: str, css: str = "word") -> str:
    """Text; ``css`` says how it is anchored, too."""
    return element("text", css, escape(content), x=x, y=y)


def text_width(content: str) -> float:
    """Units that a label takes at most, for the fonts of a dashboard."""
    return len(content) * FONT * _CHARACTER


def coordinate(value: float) -> str:
    """A number in SVG's notation. Raises ValueError if it is not finite."""
    if not math.isfinite(value):
        msg = f"a coordinate must be finite, got {value}"
        raise ValueError(msg)
    return f"{round(value, 2) + 0.0:g}" if abs(value) < 1e5 else str(round(value))
