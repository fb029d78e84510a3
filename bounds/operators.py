"""The linear maps of `networks.graph` in torch: forward, adjoint and absolute value, batched.

Every operator acts on the last axis of flat row-major vectors, in float64:

* ``forward(h)``: ``L h`` for each row of ``h``, shape ``(R, in) → (R, out)``;
* ``adjoint(A)``: ``A L`` for each row of ``A``, shape ``(R, out) → (R, in)``;
* ``abs_forward(h)``: ``|L| h``, with the entries of L replaced by their absolute values;
* ``rows(indices)``: the rows ``e_i L``, shape ``(len(indices), in)``;
* ``reach(window)``: what rows that read a window of the output read of the input (`bounds.windows`), None for all;
* ``adjoint_within(A, window, of)``: ``A L`` from coefficients on that window of the output to those on what it reaches;
  ``of`` picks what the rows read of values of the output.

``forward_terms`` and ``adjoint_terms`` bound the number of products that are summed into one entry: with the unit
roundoff they bound the rounding error of each method (Higham, *Accuracy and Stability of Numerical Algorithms*,
§3.1), for any order of summation. Convolutions are plain sums of products here: torch uses no Winograd or FFT
variants for float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from bounds.windows import Window, coordinates
from networks.graph import Conv, ConvTranspose, Dense, Gather, Identity, LinearMap, Scale

__all__ = ["Operator", "operator"]


class Operator(Protocol):
    """One linear map, ready to be applied; see the module's docstring."""

    forward_terms: int
    adjoint_terms: int

    def forward(self, h: Tensor) -> Tensor: ...
    def adjoint(self, A: Tensor) -> Tensor: ...
    def abs_forward(self, h: Tensor) -> Tensor: ...
    def rows(self, indices: Tensor) -> Tensor: ...
    def reach(self, window: Window, /) -> Window | None: ...
    def adjoint_within(self, A: Tensor, window: Window, of: Callable[[Tensor], Tensor], /) -> Tensor: ...


class _Global:
    """A map whose outputs may read any input."""

    def reach(self, _window: Window) -> Window | None:
        return None

    def adjoint_within(self, _A: Tensor, _window: Window, _of: Callable[[Tensor], Tensor]) -> Tensor:
        raise NotImplementedError


def operator(
    linear: LinearMap,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()),
) -> Operator:
    """The torch operator of ``linear``, its weights on ``device``; ``shapes`` of its input and output, if known."""
    if isinstance(linear, Identity):
        return _Identity(linear, device, dtype)
    if isinstance(linear, Dense):
        return _Dense(linear, device, dtype)
    if isinstance(linear, Scale):
        return _Scale(linear, device, dtype)
    if isinstance(linear, Gather):
        return _Gather(linear, device, dtype, shapes)
    if isinstance(linear, Conv):
        return _Conv(linear, device, dtype)
    return _ConvTranspose(linear, device, dtype)


def _unit_rows(indices: Tensor, features: int, dtype: torch.dtype) -> Tensor:
    rows = torch.zeros((len(indices), features), dtype=dtype, device=indices.device)
    rows[torch.arange(len(indices), device=indices.device), indices] = 1
    return rows


class _Identity:
    forward_terms = 1
    adjoint_terms = 1

    def __init__(self, linear: Identity, _device: torch.device | str, dtype: torch.dtype) -> None:
        self._features = linear.features
        self._dtype = dtype

    def forward(self, h: Tensor) -> Tensor:
        return h

    def adjoint(self, A: Tensor) -> Tensor:
        return A

    def abs_forward(self, h: Tensor) -> Tensor:
        return h

    def rows(self, indices: Tensor) -> Tensor:
        return _unit_rows(indices, self._features, self._dtype)

    def reach(self, window: Window) -> Window:
        return window

    def adjoint_within(self, A: Tensor, _window: Window, _of: Callable[[Tensor], Tensor]) -> Tensor:
        return A


class _Dense(_Global):
    def __init__(self, linear: Dense, device: torch.device | str, dtype: torch.dtype) -> None:
        self._weight = torch.tensor(linear.weight, dtype=dtype, device=device)
        self._magnitude = self._weight.abs()
        self.forward_terms = linear.in_features
        self.adjoint_terms = linear.out_features

    def forward(self, h: Tensor) -> Tensor:
        return h @ self._weight.T

    def adjoint(self, A: Tensor) -> Tensor:
        return A @ self._weight

    def abs_forward(self, h: Tensor) -> Tensor:
        return h @ self._magnitude.T

    def rows(self, indices: Tensor) -> Tensor:
        return self._weight[indices]


class _Scale:
    forward_terms = 1
    adjoint_terms = 1

    def __init__(self, linear: Scale, device: torch.device | str, dtype: torch.dtype) -> None:
        self._factors = torch.tensor(linear.factors, dtype=dtype, device=device)

    def forward(self, h: Tensor) -> Tensor:
        return h * self._factors

    def adjoint(self, A: Tensor) -> Tensor:
        return A * self._factors

    def abs_forward(self, h: Tensor) -> Tensor:
        return h * self._factors.abs()

    def rows(self, indices: Tensor) -> Tensor:
        return self.adjoint(_unit_rows(indices, len(self._factors), self._factors.dtype))

    def reach(self, window: Window) -> Window:
        return window

    def adjoint_within(self, A: Tensor, _window: Window, of: Callable[[Tensor], Tensor]) -> Tensor:
        return A * of(self._factors[None])


class _Gather:
    def __init__(
        self,
        linear: Gather,
        device: torch.device | str,
        dtype: torch.dtype,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        indices = torch.tensor(linear.indices, dtype=torch.int64, device=device)
        self._features = linear.in_features
        self._dtype = dtype
        # Padding reads from one extra entry that is always zero.
        self._indices = torch.where(indices < 0, linear.in_features, indices)
        self.forward_terms = 1
        self.adjoint_terms = int(torch.bincount(self._indices).max()) if len(indices) else 1
        self._shapes = shapes
        #: For windows of the output, by size: the entry of a window of the input that each of their entries reads.
        self._entries: dict[tuple[int, ...], Tensor] = {}

    def forward(self, h: Tensor) -> Tensor:
        return functional.pad(h, (0, 1))[..., self._indices]

    def adjoint(self, A: Tensor) -> Tensor:
        out = torch.zeros((*A.shape[:-1], self._features + 1), dtype=A.dtype, device=A.device)
        return out.index_add_(-1, self._indices, A)[..., :-1]

    def abs_forward(self, h: Tensor) -> Tensor:
        return self.forward(h)

    def rows(self, indices: Tensor) -> Tensor:
        return self.adjoint(_unit_rows(indices, len(self._indices), self._dtype))

    @cached_property
    def _slices(self) -> _Slices | None:
        return _Slices.of(self._indices, *self._shapes)

    def reach(self, window: Window) -> Window | None:
        slices = self._slices
        if slices is None or window.shape != self._shapes[1]:
            return None
        first, last = slices.offset.amin(0).tolist(), slices.offset.amax(0).tolist()
        axes = list(zip(window.size, window.scale, window.offset, slices.stride, first, last, strict=True))
        return Window(
            self._shapes[0],
            tuple((size - 1) * stride + high - low + 1 for size, _, _, stride, low, high in axes),
            tuple(scale * stride for _, scale, _, stride, _, _ in axes),
            tuple(offset * stride + low for _, _, offset, stride, low, _ in axes),
        )

    def adjoint_within(self, A: Tensor, window: Window, _of: Callable[[Tensor], Tensor]) -> Tensor:
        reached, slices = self.reach(window), self._slices
        assert reached is not None
        assert slices is not None
        if window.size not in self._entries:
            entry = slices.channel[:, None]
            for axis, size in enumerate(window.size):
                at = slices.offset[:, axis] - slices.offset[:, axis].amin()
                steps = slices.stride[axis] * torch.arange(size, device=A.device)
                entry = (entry[:, :, None] * reached.size[axis] + (at[:, None] + steps)[:, None]).flatten(1)
            self._entries[window.size] = entry.flatten()
        kept = A.reshape(len(A), window.shape[0], -1)[:, slices.alive].flatten(1)
        return A.new_zeros((len(A), reached.entries)).index_add_(1, self._entries[window.size], kept)


@dataclass(frozen=True, eq=False)
class _Slices:
    """A gather each of whose output channels is a strided slice of one input channel, or nothing but padding.

    Attributes:
        stride: of every channel, one number for each axis of space.
        alive: the m output channels that are not padding.
        channel: the input channel that each of them reads, ``(m,)``.
        offset: where each of them begins, ``(m, axes)``.
    """

    stride: tuple[int, ...]
    alive: Tensor
    channel: Tensor
    offset: Tensor

    @classmethod
    def of(cls, indices: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> _Slices | None:
        """``indices`` of entries of the shape ``before``, past the end for padding, shape ``after`` when reshaped."""
        if len(before) != len(after) or len(after) < 2 or not len(indices):
            return None
        each = indices.reshape(after[0], -1)
        inside = each < math.prod(before)
        alive = torch.nonzero(inside.all(1))[:, 0]
        if not len(alive) or bool(inside.sum() != len(alive) * each.shape[1]):
            return None
        places = [part.reshape(len(alive), *after[1:]) for part in coordinates(each[alive], before)]
        starts = [part.flatten(1)[:, 0] for part in places]
        stride = []
        for axis, part in enumerate(places):
            steps = torch.zeros_like(part[:1])
            if axis:
                length = after[axis]
                step = int(part.select(axis, 1).flatten()[0] - part.flatten()[0]) if length > 1 else 1
                if step < 1:
                    return None
                stride.append(step)
                steps = step * torch.arange(length, device=part.device).reshape(-1, *[1] * (len(after) - 1 - axis))
            if not bool((part == starts[axis].reshape(-1, *[1] * (len(after) - 1)) + steps).all()):
                return None
        return cls(tuple(stride), alive, starts[0], torch.stack(starts[1:], 1))


_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


# The adjoint on a window is one matrix product where the matrix has at most so many entries: torch's transposed
# convolution takes several microseconds for each row, however small.
_MATRIX_ENTRIES = 2**19


def _pad(h: Tensor, padding: tuple[tuple[int, int], ...]) -> Tensor:
    """Zeros around the spatial axes; negative amounts crop."""
    flat = [amount for pair in reversed(padding) for amount in pair]
    return functional.pad(h, flat) if any(flat) else h


class _Conv:
    def __init__(self, linear: Conv, device: torch.device | str, dtype: torch.dtype) -> None:
        self._map = linear
        self._weight = torch.tensor(linear.weight, dtype=dtype, device=device)
        self._magnitude = self._weight.abs()
        spatial = linear.weight.shape[2:]
        kernel = math.prod(spatial)
        self.forward_terms = linear.weight.shape[1] * kernel
        self.adjoint_terms = linear.weight.shape[0] // linear.groups * kernel
        padded = [n + sum(p) for n, p in zip(linear.input_shape[1:], linear.padding, strict=True)]
        reached = [
            (out - 1) * stride + dilation * (k - 1) + 1
            for out, stride, dilation, k in zip(
                linear.output_shape[1:], linear.stride, linear.dilation, spatial, strict=True
            )
        ]
        # Where the stride leaves input entries unread, the adjoint owes them zeros.
        self._unread = tuple((0, p - r) for p, r in zip(padded, reached, strict=True))
        self._crop = tuple((-before, -after) for before, after in linear.padding)
        #: The adjoint on small windows, by their sizes, as matrices.
        self._matrices: dict[tuple[int, ...], Tensor] = {}

    def _apply(self, h: Tensor, weight: Tensor) -> Tensor:
        c = self._map
        x = _pad(h.reshape(-1, *c.input_shape), c.padding)
        y = _CONV[len(c.stride)](x, weight, None, c.stride, 0, c.dilation, c.groups)
        return y.reshape(*h.shape[:-1], c.out_features)

    def forward(self, h: Tensor) -> Tensor:
        return self._apply(h, self._weight)

    def abs_forward(self, h: Tensor) -> Tensor:
        return self._apply(h, self._magnitude)

    def adjoint(self, A: Tensor) -> Tensor:
        c = self._map
        y = A.reshape(-1, *c.output_shape)
        x = _CONV_TRANSPOSE[len(c.stride)](y, self._weight, None, c.stride, 0, 0, c.groups, c.dilation)
        return _pad(_pad(x, self._unread), self._crop).reshape(*A.shape[:-1], c.in_features)

    def rows(self, indices: Tensor) -> Tensor:
        # A row reads one patch of the input, so it is written directly instead of convolving a unit vector.
        c = self._map
        positions = math.prod(c.output_shape[1:])
        channel, position = indices // positions, indices % positions
        entries = self._patches[position]
        per_group = c.input_shape[0] // c.groups
        first = channel // (c.output_shape[0] // c.groups) * per_group
        channels = first[:, None] + torch.arange(per_group, device=indices.device)
        space = math.prod(c.input_shape[1:])
        columns = torch.where(entries[:, None, :] < 0, c.in_features, channels[..., None] * space + entries[:, None, :])
        out = torch.zeros((len(indices), c.in_features + 1), dtype=self._weight.dtype, device=indices.device)
        return out.scatter_(1, columns.flatten(1), self._weight[channel].flatten(1))[:, :-1]

    def reach(self, window: Window) -> Window | None:
        c = self._map
        if window.shape != c.output_shape:
            return None
        kernel = c.weight.shape[2:]
        size = tuple(
            (n - 1) * stride + dilation * (k - 1) + 1
            for n, stride, dilation, k in zip(window.size, c.stride, c.dilation, kernel, strict=True)
        )
        scale = tuple(n * stride for n, stride in zip(window.scale, c.stride, strict=True))
        offset = tuple(
            n * stride - before for n, stride, (before, _) in zip(window.offset, c.stride, c.padding, strict=True)
        )
        return Window(c.input_shape, size, scale, offset)

    def adjoint_within(self, A: Tensor, window: Window, _of: Callable[[Tensor], Tensor]) -> Tensor:
        reached = self.reach(window)
        assert reached is not None
        if window.entries * reached.entries > _MATRIX_ENTRIES:
            return self._within(A, window)
        if window.size not in self._matrices:
            if len(A) < window.entries:
                return self._within(A, window)  # the matrix would cost more than it saves
            self._matrices[window.size] = self._within(
                torch.eye(window.entries, dtype=A.dtype, device=A.device), window
            )
        return A @ self._matrices[window.size]

    def _within(self, A: Tensor, window: Window) -> Tensor:
        c = self._map
        y = A.reshape(-1, window.shape[0], *window.size)
        return _CONV_TRANSPOSE[len(c.stride)](y, self._weight, None, c.stride, 0, 0, c.groups, c.dilation).flatten(1)

    @cached_property
    def _patches(self) -> Tensor:
        """Flat spatial index that each output position reads for each kernel entry; -1 in the padding. ``(P, K)``."""
        c = self._map
        kernel = c.weight.shape[2:]
        strides = [math.prod(c.input_shape[k + 2 :]) for k in range(len(kernel))]
        index = torch.zeros((1, 1), dtype=torch.int64)
        inside = torch.ones((1, 1), dtype=torch.bool)
        for axis, k in enumerate(kernel):
            out = torch.arange(c.output_shape[1 + axis]) * c.stride[axis] - c.padding[axis][0]
            read = out[:, None] + torch.arange(k) * c.dilation[axis]
            valid = (read >= 0) & (read < c.input_shape[1 + axis])
            index = (index[:, None, :, None] + strides[axis] * read[None, :, None, :]).flatten(2).flatten(0, 1)
            inside = (inside[:, None, :, None] & valid[None, :, None, :]).flatten(2).flatten(0, 1)
        return torch.where(inside, index, -1).to(self._weight.device)


class _ConvTranspose(_Global):
    def __init__(self, linear: ConvTranspose, device: torch.device | str, dtype: torch.dtype) -> None:
        self._map = linear
        self._weight = torch.tensor(linear.weight, dtype=dtype, device=device)
        self._magnitude = self._weight.abs()
        kernel = math.prod(linear.weight.shape[2:])
        self.forward_terms = linear.weight.shape[0] // linear.groups * kernel
        self.adjoint_terms = linear.weight.shape[1] * kernel
        self._extend = tuple((0, extra) for extra in linear.output_padding)
        self._crop = tuple((-before, -after) for before, after in linear.padding)

    def _apply(self, h: Tensor, weight: Tensor) -> Tensor:
        c = self._map
        x = h.reshape(-1, *c.input_shape)
        y = _CONV_TRANSPOSE[len(c.stride)](x, weight, None, c.stride, 0, 0, c.groups, c.dilation)
        return _pad(_pad(y, self._extend), self._crop).reshape(*h.shape[:-1], c.out_features)

    def forward(self, h: Tensor) -> Tensor:
        return self._apply(h, self._weight)

    def abs_forward(self, h: Tensor) -> Tensor:
        return self._apply(h, self._magnitude)

    def adjoint(self, A: Tensor) -> Tensor:
        c = self._map
        full = _pad(A.reshape(-1, *c.output_shape), tuple((b, a) for b, a in c.padding))
        full = _pad(full, tuple((0, -extra) for extra in c.output_padding))
        x = _CONV[len(c.stride)](full, self._weight, None, c.stride, 0, c.dilation, c.groups)
        return x.reshape(*A.shape[:-1], c.in_features)

    def rows(self, indices: Tensor) -> Tensor:
        return self.adjoint(_unit_rows(indices, self._map.out_features, self._weight.dtype))
