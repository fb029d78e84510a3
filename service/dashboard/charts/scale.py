"""From values to places: scales with round ticks, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "Scale",
    "TimeUnit",
    "count",
    "duration",
    "linear",
    "logarithmic",
    "number",
    "percent",
    "symmetric",
    "time_unit",
]

#: What is smaller than this is 0 to every reader.
_TINY = 1e-100
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to units of the drawing.

    Attributes:
        low, high: ends of the domain.
        begin, end: where they are drawn.
        ticks: values that are labelled, all within the domain.
        labels: of the ticks.
        warp: increasing; values are evenly spaced after it.
    """

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    warp: Callable[[float], float]

    def __call__(self, value: float) -> float:
        """Where a value is drawn; one beyond an end is drawn at that end."""
        inside = min(max(value, self.low), self.high)
        first, last = self.warp(self.low), self.warp(self.high)
        return self.begin + (self.warp(inside) - first) / (last - first) * (self.end - self.begin)

    def between(self, begin: float, end: float) -> Scale:
        """The same values at another place."""
        return Scale(self.low, self.high, begin, end, self.ticks, self.labels, self.warp)


def linear(
    low: float, high: float, *, most: int = 6, label: Callable[[float], str] | None = None, whole: bool = False
) -> Scale:
    """An even scale whose ends are ticks, over at least ``low`` to ``high``.

    Args:
        low: least value.
        high: greatest value.
        most: ticks, about.
        label: writes a tick; by default `number`.
        whole: whether only whole numbers are ticks.
    """
    low, high = _apart(low, high)
    step = _step((high - low) / max(1, most - 1))
    if whole:
        step = max(1.0, 5.0 if step == 2.5 else step)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(_rounded(i * step, step) for i in range(first, last + 1))
    write = label or (lambda value: number(value, step))
    return Scale(ticks[0], ticks[-1], 0.0, 1.0, ticks, tuple(map(write, ticks)), lambda value: value)


def logarithmic(low: float, high: float, *, most: int = 6, label: Callable[[float], str] | None = None) -> Scale:
    """A scale by powers of ten for values above 0; ticks between the powers where there are few of them."""
    low = max(low, 1e-12)
    high = max(high, low)
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    write = label or (number)
    if last - first <= 2:
        ticks = [m * 10.0**e for e in range(first, last) for m in (1, 2, 5)] + [10.0**last]
    else:
        every = math.ceil((last - first) / (most - 1))
        ticks = [10.0**e for e in range(first, last + 1, every)]
    return Scale(10.0**first, 10.0**last, 0.0, 1.0, tuple(ticks), tuple(map(write, ticks)), math.log10)


def symmetric(low: float, high: float, fine: float, *, most: int = 7) -> Scale:
    """Even within ``fine`` of 0 and by powers of ten beyond: for values that begin far away and end near 0."""
    exponent = math.floor(math.log10(fine))
    largest = max(abs(low), abs(high), 10.0**exponent)
    powers = [10.0**e for e in range(exponent, math.ceil(math.log10(largest) - 1e-9) + 1)]
    reach = [p for p in powers if p >= max(-low, 0.0)][:1] if low < 0 else []
    bottom = -reach[0] if reach else 0.0
    reach = [p for p in powers if p >= max(high, 0.0)][:1] if high > 0 else []
    top = reach[0] if reach else 0.0
    every = max(1, math.ceil(sum(p <= -bottom for p in powers) + sum(p <= top for p in powers)) // most)
    below = [-p for p in powers if p <= -bottom][::-1][::every]
    above = [p for p in powers if p <= top][::-1][::every][::-1]
    ticks = (*below, 0.0, *above)
    unit = 10.0**exponent
    return Scale(
        bottom if bottom < top else -unit,
        top if bottom < top else unit,
        0.0,
        1.0,
        ticks,
        tuple(number(tick) for tick in ticks),
        lambda value: math.copysign(math.log1p(abs(value) / unit), value),
    )


def _apart(low: float, high: float) -> tuple[float, float]:
    """The ends, moved apart where they are (nearly) equal."""
    size = max(abs(low), abs(high))
    if size < _TINY:
        return 0.0, 1.0
    if high - low > 1e-12 * size:
        return low, high
    return low - size / 2, high + size / 2


def _step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in (m * power for m in _STEPS) if step >= rough * (1 - 1e-9))


def _rounded(value: float, step: float) -> float:
    return round(value, max(0, 2 - math.floor(math.log10(step)))) + 0.0


def number(value: float, step: float | None = None) -> str:
    """A number with as many digits as tell it apart from its neighbours at ``step``; else four significant ones."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        digits = 2 if step is None else min(15, max(2, math.floor(math.log10(size)) - math.floor(math.log10(step)) + 1))
        mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
        return _minus(f"{float(mantissa):.16g}e{int(exponent)}")
    if step is None:
        return _minus(f"{value:.4g}" if size < 1000 else f"{value:,.0f}".replace(",", "\u202f"))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(step * 10**digits - round(step * 10**digits)) > 1e-9:
        digits += 1  # a step of 2.5
    return _minus(f"{value:,.{digits}f}".replace(",", "\u202f"))


def count(value: float) -> str:
    """A whole number, with thin spaces between thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share; 100 % and 0 % only where it is exactly that."""
    hundred = share * 100
    for digits in (1, 2):
        shown = f"{hundred:.{digits}f}"
        if float(shown) not in {0.0, 100.0} or share in {0.0, 1.0}:
            return f"{shown.removesuffix('.0')} %"
    return "> 99.99 %" if share > 0.5 else "< 0.01 %"


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """A unit of time for an axis."""

    name: str
    symbol: str
    seconds: float


_UNITS = (
    TimeUnit("milliseconds", "ms", 1e-3),
    TimeUnit("seconds", "s", 1.0),
    TimeUnit("minutes", "min", 60.0),
    TimeUnit("hours", "h", 3600.0),
    TimeUnit("days", "d", 86400.0),
)


#: Neighbouring units, and the seconds up to which a time is told in both of them.
_PAIRS = (((_UNITS[1], _UNITS[2]), 3600.0), ((_UNITS[2], _UNITS[3]), 86400.0), ((_UNITS[3], _UNITS[4]), 0.0))


def time_unit(longest: float) -> TimeUnit:
    """The unit in which ``longest`` seconds are a small number."""
    return next((unit for unit in reversed(_UNITS) if longest >= 2 * unit.seconds), _UNITS[0])


def duration(seconds: float) -> str:
    """A time span in words that are as exact as anybody wants: ``38 ms``, ``2.5 s``, ``3 min 20 s``."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.2g} ms" if milliseconds < 9.5 else f"{milliseconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    small, large = next((pair for pair, most in _PAIRS if seconds < most - pair[0].seconds / 2), _PAIRS[-1][0])
    whole, rest = divmod(round(seconds / small.seconds), round(large.seconds / small.seconds))
    return f"{count(whole)} {large.symbol}" + (f" {rest} {small.symbol}" if rest else "")


def _minus(written: str) -> str:
    return written.replace("-", "\u2212")
