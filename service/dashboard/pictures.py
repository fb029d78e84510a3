"""Pictures of inputs as PNG: an image, the one that breaks the property, and what changed between them.

Written with zlib alone, from plain lists of numbers as requests and verdicts hold them; a picture goes into a page as a
``data:`` URL, as inputs are small.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Change", "Layout", "Picture", "change_picture", "changes", "image", "layout", "png", "ramp"]

#: Sides of what is taken for an image; a larger one would weigh on the page more than it shows.
_LEAST_SIDE, _GREATEST_SIDE = 4, 512
#: Neutral, where an entry grew and where it fell: orange against blue, which every kind of colour vision tells apart.
_NEUTRAL, _MORE, _LESS = (247, 247, 247), (179, 88, 6), (33, 102, 172)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Layout:
    """How the entries of an input lie in an image.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3.
        last: whether the channels are the last axis (HWC), else the first (CHW).
        guessed: whether the input is a plain vector that only has the length of a square image.
    """

    height: int
    width: int
    channels: int
    last: bool = False
    guessed: bool = False

    def entry(self, row: int, column: int, channel: int) -> int:
        """Where a pixel's value is, in C order."""
        if self.last:
            return (row * self.width + column) * self.channels + channel
        return (channel * self.height + row) * self.width + column

    @property
    def words(self) -> str:
        """As people write it."""
        kind = "grey" if self.channels == 1 else "colour"
        return f"{self.width} × {self.height} pixels, {kind}" + (", as its length suggests" if self.guessed else "")


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG and its size in pixels; templates print ``url`` into an ``img``."""

    url: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one entry."""

    place: str
    before: float
    after: float


def layout(shape: Sequence[int]) -> Layout | None:
    """How an input of ``shape`` (without batch dimension) lies in an image; None where it is no image."""
    sides = [size for size in shape if size != 1] if len(shape) > 3 else list(shape)
    match sides:
        case [channels, height, width] if channels in {1, 3} and _sides(height, width):
            return Layout(height, width, channels)
        case [height, width, channels] if channels in {1, 3} and _sides(height, width):
            return Layout(height, width, channels, last=True)
        case [height, width] if _sides(height, width):
            return Layout(height, width, 1)
    size = math.prod(shape)
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if side * side * channels == size and _sides(side, side) and side >= 8:
            return Layout(side, side, channels, guessed=True)
    return None


def _sides(height: int, width: int) -> bool:
    return min(height, width) >= _LEAST_SIDE and max(height, width) <= _GREATEST_SIDE


def image(values: Sequence[float], how: Layout, low: float, high: float) -> Picture:
    """An input as it looks, ``low`` being black and ``high`` white.

    Args:
        values: of the entries, in C order.
        how: where they lie.
        low, high: ends of what is shown; values beyond are cut off.
    """
    scale = 255 / (high - low) if high > low else 0.0
    grey = [max(0, min(255, round((value - low) * scale))) for value in values]
    pixels = bytes(
        grey[how.entry(row, column, channel)]
        for row in range(how.height)
        for column in range(how.width)
        for channel in range(how.channels)
    )
    return _picture(pixels, how.width, how.height, how.channels)


def change_picture(before: Sequence[float], after: Sequence[float], how: Layout) -> Picture:
    """What changed, magnified until the largest change has the full colour: orange for more, blue for less.

    Where there are several channels, a pixel shows the one that changed most.
    """
    moved = [b - a for a, b in zip(before, after, strict=True)]
    largest = max(map(abs, moved), default=0.0) or 1.0
    pixels = bytearray()
    for row in range(how.height):
        for column in range(how.width):
            each = (moved[how.entry(row, column, channel)] for channel in range(how.channels))
            pixels += bytes(_diverging(max(each, key=abs) / largest))
    return _picture(bytes(pixels), how.width, how.height, 3)


def ramp(steps: int = 65) -> Picture:
    """The colours of `change_picture`, from the largest decrease to the largest increase."""
    colours = b"".join(bytes(_diverging(2 * i / (steps - 1) - 1)) for i in range(steps))
    return _picture(colours, steps, 1, 3)


def _diverging(share: float) -> tuple[int, ...]:
    """The colour of a change between -1 and 1; the square root keeps small ones visible."""
    end = _MORE if share > 0 else _LESS
    weight = math.sqrt(abs(share))
    return tuple(round(n + (e - n) * weight) for n, e in zip(_NEUTRAL, end, strict=True))


def changes(before: Sequence[float], after: Sequence[float], shape: Sequence[int], *, most: int = 12) -> list[Change]:
    """The entries that changed most, the largest change first."""
    moved = [(abs(b - a), i) for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    chosen = sorted(moved, key=lambda each: (-each[0], each[1]))[:most]
    return [Change(_place(i, shape), before[i], after[i]) for _, i in chosen]


def _place(i: int, shape: Sequence[int]) -> str:
    """An entry's index, and its place in an array of several axes."""
    sizes = [size for size in shape if size != 1]
    if len(sizes) < 2:
        return str(i)
    places, rest = [], i
    for size in reversed(shape):
        rest, place = divmod(rest, size)
        places.append(str(place))
    return f"{i} ({', '.join(reversed(places))})"


def _picture(pixels: bytes, width: int, height: int, channels: int) -> Picture:
    encoded = base64.b64encode(png(pixels, width, height, channels)).decode()
    return Picture(f"data:image/png;base64,{encoded}", width, height)


def png(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """A PNG file (ISO/IEC 15948) with 8 bits a sample.

    Args:
        pixels: ``height × width × channels`` bytes, row by row.
        width: in pixels.
        height: in pixels.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: the number of bytes does not fit.
    """
    if len(pixels) != width * height * channels or channels not in {1, 3} or not width * height:
        msg = f"{len(pixels)} bytes do not make {width} x {height} pixels of {channels} bytes; 1 or 3 are known"
        raise ValueError(msg)
    row = width * channels
    lines = b"".join(b"\0" + pixels[y * row : (y + 1) * row] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
