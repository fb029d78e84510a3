"""Whether the entries of an array, read in C order, are a network's inputs in their order."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["layout_refusal"]


def layout_refusal(given: Sequence[int], expected: Sequence[int]) -> str:
    """Why an array of shape ``given`` is not read as an input of shape ``expected``, which has as many entries; or "".

    Dimensions of 1 say nothing about the order, and neither does a vector on either side: it is taken as it is. Other
    shapes that differ, such as height × width × channels for channels × height × width, would scramble the input, and
    a verdict about a scrambled input looks like any other.
    """
    ours, theirs = ([size for size in shape if size != 1] for shape in (given, expected))
    if len(ours) <= 1 or len(theirs) <= 1 or ours == theirs:
        return ""
    here, there = ("×".join(map(str, shape)) for shape in (given, expected))
    advice = "transpose" if sorted(ours) == sorted(theirs) else "rearrange"
    return (
        f"shape {here}, but the network takes {there}: the axes differ, so entries would be taken in a wrong order; "
        f"{advice} it, or flatten it if its entries are in the network's order"
    )
