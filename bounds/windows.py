"""Windows: the part of each value that one neuron of a convolutional layer reads.

A row of coefficients that starts at one neuron is zero outside the neuron's receptive field, so a backward pass from
many neurons need only carry that part. For a chain of convolutions it is a box of positions, in every channel; it has
the same size for each neuron of a layer, and moves with the neuron's position. `plan` finds the windows of all nodes
from the structure of the network alone, and a `Frame` holds the rows of one pass: what they read, and of which box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from bounds.operators import Operator
    from bounds.program import Program

__all__ = ["Frame", "Window", "coordinates", "plan"]

# A window of more than this part of a node's entries is not worth its bookkeeping.
_WORTHWHILE = 0.6


@dataclass(frozen=True)
class Window:
    """A box of positions of a value, in every channel.

    A row that starts at position s of another node's value reads, along each axis, the ``size`` positions from
    ``s * scale + offset`` on. Some of them may lie outside the value; coefficients there are zero.

    Attributes:
        shape: the value's shape ``(channels, *space)``.
        size, scale, offset: one number for each axis of space.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    scale: tuple[int, ...]
    offset: tuple[int, ...]

    @classmethod
    def entry(cls, shape: tuple[int, ...]) -> Window:
        """The position where a row starts."""
        axes = len(shape) - 1
        return cls(shape, (1,) * axes, (1,) * axes, (0,) * axes)

    @property
    def entries(self) -> int:
        """Coefficients of each row."""
        return self.shape[0] * math.prod(self.size)

    def union(self, other: Window) -> Window | None:
        """The smallest window around both; None where they move differently."""
        if (self.shape, self.scale) != (other.shape, other.scale):
            return None
        ends = [(o + n, p + m) for o, n, p, m in zip(self.offset, self.size, other.offset, other.size, strict=True)]
        offset = tuple(map(min, self.offset, other.offset))
        size = tuple(max(end) - begin for begin, end in zip(offset, ends, strict=True))
        return Window(self.shape, size, self.scale, offset)

    def widen(self, A: Tensor, around: Window) -> Tensor:
        """Coefficients ``(R, entries)`` on this window as those on a window around it."""
        if self == around:
            return A
        gaps: list[int] = []
        for mine, size, theirs, total in zip(self.offset, self.size, around.offset, around.size, strict=True):
            gaps = [mine - theirs, theirs + total - mine - size, *gaps]
        return functional.pad(A.reshape(-1, self.shape[0], *self.size), gaps).flatten(1)

    def indices(self, start: Tensor) -> Tensor:
        """Flat indices of the entries that rows from the positions ``start``, shape ``(U, axes)``, read.

        Shape ``(U, entries)``; outside the value the index is the number of its features.
        """
        device = start.device
        flat = torch.zeros((len(start), 1), dtype=torch.int64, device=device)
        inside = torch.ones((len(start), 1), dtype=torch.bool, device=device)
        for axis, size in enumerate(self.size):
            begin = start[:, axis] * self.scale[axis] + self.offset[axis]
            read = begin[:, None] + torch.arange(size, device=device)
            length = self.shape[1 + axis]
            flat = (flat[:, :, None] * length + read[:, None]).flatten(1)
            inside = (inside[:, :, None] & ((read >= 0) & (read < length))[:, None]).flatten(1)
        space = math.prod(self.shape[1:])
        every = flat[:, None] + space * torch.arange(self.shape[0], device=device)[:, None]
        return torch.where(inside[:, None], every, self.shape[0] * space).flatten(1)


def plan(program: Program, node: int) -> dict[int, Window]:
    """The window of each node that single entries of ``node`` depend on; nodes that are missing are read as a whole."""
    shape = program.shapes[node]
    if len(shape) < 2 or math.prod(shape[1:]) == 1:
        return {}
    reached: dict[int, Window | None] = {node: Window.entry(shape)}
    for k in range(node, 0, -1):
        window, step = reached.get(k), program.steps[k]
        if k not in reached or step is None:
            continue
        passed = [(step, window)] if isinstance(step, int) else _passed(step.parents, step.operators, window)
        for parent, part in passed:
            both = part
            if parent in reached:
                before = reached[parent]
                both = part.union(before) if part is not None and before is not None else None
            large = both is not None and both.entries > _WORTHWHILE * program.features[parent]
            reached[parent] = None if large else both
    return {k: window for k, window in reached.items() if window is not None}


def _passed(
    parents: tuple[int, ...], operators: tuple[Operator, ...], window: Window | None
) -> list[tuple[int, Window | None]]:
    return [
        (parent, op.reach(window) if window is not None else None)
        for parent, op in zip(parents, operators, strict=True)
    ]


def coordinates(flat: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """The index along each axis of flat indices; `torch.unravel_index` first loads torch's compiler, for 0.4 s."""
    found: list[Tensor] = []
    for length in reversed(shape):
        found.insert(0, flat % length)
        flat = flat // length
    return found


class Frame:
    """R rows of a backward pass: the box each belongs to, and the entries of each node's value that it reads.

    Args:
        box: the box of each row, shape ``(R,)``.
        windows: of the nodes that are not read as a whole; see `plan`.
        position: where each row starts, shape ``(R,)``, if there are windows; flat, in the space of ``shape``.
        shape: of the value that the rows start from.
    """

    def __init__(
        self,
        box: Tensor,
        windows: Mapping[int, Window] | None = None,
        position: Tensor | None = None,
        shape: tuple[int, ...] = (),
    ) -> None:
        self._box = box
        self._windows = windows or {}
        self._read: dict[int, Tensor] = {}
        if position is not None:
            space = math.prod(shape[1:])
            keys, self._place = torch.unique(box * space + position, return_inverse=True)
            self._boxes = keys[:, None] // space
            self._start = torch.stack(coordinates(keys % space, shape[1:]), 1)

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of what has one entry for each row: ``(R,)``."""
        return tuple(self._box.shape)

    def of(self, node: int, values: Tensor) -> Tensor:
        """What each row reads of ``values``, shape ``(boxes, features)``: ``(R or 1, entries)``, 0 outside."""
        if node not in self._windows:
            return self.of_box(values)
        return self._pick(values, self._indices(node))[self._place]

    def of_box(self, values: Tensor) -> Tensor:
        """The values of each row's box, shape ``(boxes, …)``: ``(R or 1, …)``."""
        return values if len(values) == 1 else values[self._box]

    def marked(self, node: int, mask: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """Entries of the rows among which are all that ``mask``, shape ``(boxes, features)``, marks.

        Returns:
            Their columns, shape ``(R, k)``, and a function that picks them from values of the mask's shape; None where
            the node is read as a whole.
        """
        if node not in self._windows:
            return None
        index = self._indices(node)
        marks = self._pick(mask, index)
        columns = marks.to(torch.uint8).topk(int(marks.sum(1).max()), dim=1).indices
        chosen = index.gather(1, columns)
        return columns[self._place], lambda values: self._pick(values, chosen)[self._place]

    def dot(self, node: int, values: Tensor, A: Tensor) -> Tensor:
        """Each row of A times what it reads of ``values``: ``(R,)``."""
        if node in self._windows:
            window = self._windows[node]
            if len(values) == 1:
                channels = values.reshape(window.shape[0], -1)
                if bool((channels == channels[:, :1]).all()):
                    return A @ self._spread(window, channels[:, 0])
        elif len(values) == 1:
            return A @ values[0]
        return (A * self.of(node, values)).sum(-1)

    def dot_at_most(self, node: int, values: Tensor, A: Tensor) -> Tensor:
        """At least what `dot` gives for A and values that are nowhere negative, and cheaper."""
        if node not in self._windows:
            return self.dot(node, values, A)
        window = self._windows[node]
        return A @ self._spread(window, values.amax(0).reshape(window.shape[0], -1).amax(1))

    def adjoint(self, node: int, parent: int, op: Operator, A: Tensor, *, clean: bool) -> Tensor:
        """``A L`` for the operator L that leads from ``parent`` to ``node``, on the entries read there.

        A window that laps over the edge of the value has entries there that belong to nothing: ``clean`` makes them 0.
        """
        if node not in self._windows:
            return op.adjoint(A)
        window = self._windows[node]
        reached = op.reach(window)
        if reached is None:
            return op.adjoint(self._scatter(window, A, self._indices(node)))
        A = op.adjoint_within(A, window, lambda values: self.of(node, values))
        if parent not in self._windows:
            return self._scatter(reached, A, reached.indices(self._start))
        A = reached.widen(A, self._windows[parent])
        if clean:
            A = A * (self._indices(parent) < math.prod(reached.shape))[self._place]
        return A

    def _indices(self, node: int) -> Tensor:
        """Flat indices of what is read of ``node``, for each place where rows start, ``(U, entries)``."""
        if node not in self._read:
            self._read[node] = self._windows[node].indices(self._start)
        return self._read[node]

    def _pick(self, values: Tensor, index: Tensor) -> Tensor:
        """Entries ``index`` of the values of each place's box, 0 outside; both ``(U, k)``."""
        table = functional.pad(values, (0, 1))
        return table[0][index] if len(table) == 1 else table[self._boxes, index]

    def _scatter(self, window: Window, A: Tensor, index: Tensor) -> Tensor:
        """Coefficients on a window as those on the whole value."""
        features = math.prod(window.shape)
        out = torch.zeros((len(A), features + 1), dtype=A.dtype, device=A.device)
        return out.scatter_(1, index[self._place], A)[:, :-1]

    @staticmethod
    def _spread(window: Window, channels: Tensor) -> Tensor:
        """One number for each channel as one for each entry of a window."""
        return channels.repeat_interleave(math.prod(window.size))
