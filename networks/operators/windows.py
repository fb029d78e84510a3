"""Operators that slide a window: convolutions and pooling."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.graph import Conv, ConvTranspose, Gather, LinearMap
from networks.operators.arithmetic import reciprocal
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View, check_size

__all__ = ["tournament"]


@dataclass(frozen=True, slots=True)
class _Window:
    """How a window of ``kernel`` entries moves over ``spatial`` dimensions, and the ``output`` sizes it gives.

    ``padding`` is what windows may reach; of that, ``declared`` is counted as padding, and what ceil_mode adds is not.
    """

    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    declared: tuple[tuple[int, int], ...]
    output: tuple[int, ...]


def _spatial(call: Call, value: View) -> tuple[int, ...]:
    if len(value.shape) not in (3, 4) or value.shape[0] != 1:
        call.refuse("one image of shape (1, channels, length) or (1, channels, height, width) is needed")
    return value.shape[2:]


def _per_axis(call: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in call.attributes.get(name, [default] * rank))
    if len(values) != rank:
        call.refuse(f"{name} {list(values)} has {len(values)} numbers; {rank} are needed")
    return values


def _window(call: Call, image: tuple[int, ...], kernel: tuple[int, ...]) -> _Window:
    """The window of a Conv or pooling node on an image of shape ``(channels, *spatial)``.

    A ceil_mode that matters becomes padding at the end.
    """
    channels, *spatial = image
    rank = len(spatial)
    stride, dilation = _per_axis(call, "strides", rank, 1), _per_axis(call, "dilations", rank, 1)
    pads = _per_axis(call, "pads", 2 * rank, 0)
    if min(stride + dilation + kernel) < 1 or min(pads) < 0:
        call.refuse("kernel, strides and dilations must be positive and pads nonnegative")
    auto = call.attributes.get("auto_pad", "NOTSET")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding, declared = [], []
    for i, n in enumerate(spatial):
        if auto == "NOTSET":
            before, after = pads[i], pads[i + rank]
        elif auto == "VALID":
            before = after = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-n // stride[i]) - 1) * stride[i] + reach[i] - n, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        else:
            call.refuse(f"auto_pad {auto!r}; NOTSET, VALID, SAME_UPPER and SAME_LOWER are supported")
        declared.append((before, after))
        if call.attributes.get("ceil_mode", 0):
            # A window may start inside the image or its padding in front and reach over the end.
            count = -(-(n + before + after - reach[i]) // stride[i]) + 1
            if (count - 1) * stride[i] >= n + before:
                count -= 1
            after = max(after, (count - 1) * stride[i] + reach[i] - n - before)
        padding.append((before, after))
    output = tuple((n + b + a - r) // s + 1 for n, (b, a), r, s in zip(spatial, padding, reach, stride, strict=True))
    if min(output) < 1:
        call.refuse(f"the window {list(reach)} does not fit into the padded image")
    check_size([channels, *(n + b + a for n, (b, a) in zip(spatial, padding, strict=True))])
    return _Window(tuple(spatial), kernel, stride, dilation, tuple(padding), tuple(declared), output)


@operator("Conv", "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
def _conv(trace: Trace, call: Call) -> Tensor:
    """Affine, in one or two dimensions, with any groups, dilation, strides and padding.

    Refused: three dimensions; a weight or bias that depends on the input.
    """
    value = call.view(0)
    spatial = _spatial(call, value)
    weight = call.weights(1, "weight")
    groups = int(call.attributes.get("group", 1))
    _check_kernel(call, weight, len(spatial))
    if groups < 1 or weight.shape[1] * groups != value.shape[1] or weight.shape[0] % groups:
        call.refuse(f"weight {weight.shape} with {groups} groups does not fit {value.shape[1]} channels")
    window = _window(call, value.shape[1:], weight.shape[2:])
    out = (weight.shape[0], *window.output)
    linear = Conv(weight, value.shape[1:], out, window.stride, window.padding, window.dilation, groups)
    return trace.affine([(trace.plain(value), linear)], (1, *out), _channel_bias(call, len(spatial)))


def _check_kernel(call: Call, weight: NDArray[np.float64], rank: int) -> None:
    if weight.ndim != rank + 2:
        call.refuse(f"weight {weight.shape} does not have {rank} spatial dimensions")
    if tuple(call.attributes.get("kernel_shape", weight.shape[2:])) != weight.shape[2:]:
        call.refuse(f"kernel_shape {call.attributes['kernel_shape']} is not that of its weight {weight.shape}")


def _channel_bias(call: Call, rank: int) -> NDArray[np.float64] | float:
    return 0.0 if call.input(2) is None else call.weights(2, "bias").reshape(-1, *[1] * rank)


@operator(
    "ConvTranspose",
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "output_padding",
    "output_shape",
    "pads",
    "strides",
)
def _conv_transpose(trace: Trace, call: Call) -> Tensor:
    """Affine, in one or two dimensions, with any groups, dilation, strides, padding and output padding.

    Refused: three dimensions; a weight or bias that depends on the input; pads beyond the output.
    """
    value = call.view(0)
    spatial = _spatial(call, value)
    rank = len(spatial)
    weight = call.weights(1, "weight")
    groups = int(call.attributes.get("group", 1))
    _check_kernel(call, weight, rank)
    if groups < 1 or weight.shape[0] != value.shape[1] or weight.shape[0] % groups:
        call.refuse(f"weight {weight.shape} with {groups} groups does not fit {value.shape[1]} channels")
    stride, dilation = _per_axis(call, "strides", rank, 1), _per_axis(call, "dilations", rank, 1)
    extra = _per_axis(call, "output_padding", rank, 0)
    pads = _per_axis(call, "pads", 2 * rank, 0)
    auto = call.attributes.get("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        call.refuse(f"auto_pad {auto!r}; NOTSET, VALID, SAME_UPPER and SAME_LOWER are supported")
    wanted = call.attributes.get("output_shape")
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(spatial, stride, strict=True)]
    padding, output = [], []
    for i, n in enumerate(spatial):
        full = stride[i] * (n - 1) + extra[i] + (weight.shape[2 + i] - 1) * dilation[i] + 1
        if wanted is not None:
            total = full - int(wanted[len(wanted) - rank + i])
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            cropped = (before, total - before)
        else:
            cropped = (pads[i], pads[i + rank]) if auto == "NOTSET" else (0, 0)
        padding.append(cropped)
        output.append(full - sum(cropped))
    if min(output) < 1 or min(min(p) for p in padding) < 0:
        call.refuse(f"its pads {padding} do not leave an output ({output})")
    out = (weight.shape[1] * groups, *output)
    check_size([out[0], *(n + sum(cropped) for n, cropped in zip(output, padding, strict=True))])
    linear = ConvTranspose(weight, value.shape[1:], out, stride, tuple(padding), extra, dilation, groups)
    return trace.affine([(trace.plain(value), linear)], (1, *out), _channel_bias(call, rank))


@operator("AveragePool", "auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides")
def _average_pool(trace: Trace, call: Call) -> Tensor:
    """Affine, in one or two dimensions; the reciprocals of the counts round to float64 unless they are powers of two.

    Refused: three dimensions; a window wholly in the padding.
    """
    value = call.view(0)
    spatial = _spatial(call, value)
    window = _window(call, value.shape[1:], _per_axis(call, "kernel_shape", len(spatial), 0))
    counts = _counts(window, pads=bool(call.attributes.get("count_include_pad", 0)))
    if not counts.all():
        call.refuse("a window lies wholly in the padding")
    if (counts == counts.flat[0]).all():
        return _depthwise(trace, value, window, reciprocal(trace, call, np.full(window.kernel, counts.flat[0])))
    sums = _depthwise(trace, value, window, np.ones(window.kernel))
    return trace.scaled(sums, reciprocal(trace, call, counts))


def _depthwise(trace: Trace, value: View, window: _Window, kernel: NDArray[np.float64]) -> View:
    """The same kernel on every channel."""
    channels = value.shape[1]
    weight = np.broadcast_to(kernel, (channels, 1, *kernel.shape)).copy()
    out = (channels, *window.output)
    linear = Conv(weight, value.shape[1:], out, window.stride, window.padding, window.dilation, channels)
    return trace.affine([(trace.plain(value), linear)], (1, *out))


def _under(window: _Window, padded: NDArray[np.int64]) -> NDArray[np.int64]:
    """What of a padded image lies under every window; shape ``(prod(kernel), *output)``."""
    check_size([*window.kernel, *window.output])
    parts = []
    for offset in itertools.product(*(range(k) for k in window.kernel)):
        cut = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, window.dilation, window.output, window.stride, strict=True)
        )
        parts.append(padded[cut])
    return np.stack(parts)


def _counts(window: _Window, *, pads: bool) -> NDArray[np.float64]:
    """How many entries under each window an average divides by, declared ``pads`` among them or not."""
    image = np.pad(np.ones(window.spatial, np.int64), window.declared, constant_values=int(pads))
    beyond = [(a - c, b - d) for (a, b), (c, d) in zip(window.padding, window.declared, strict=True)]
    return np.asarray(_under(window, np.pad(image, beyond)).sum(0), np.float64)


@operator("GlobalAveragePool")
def _global_average_pool(trace: Trace, call: Call) -> Tensor:
    """Affine; the reciprocal of the number of entries rounds to float64 unless it is a power of two."""
    value = call.view(0)
    spatial = _spatial(call, value)
    ones = (1,) * len(spatial)
    window = _Window(spatial, spatial, ones, ones, ((0, 0),) * len(spatial), ((0, 0),) * len(spatial), ones)
    return _depthwise(trace, value, window, reciprocal(trace, call, np.full(spatial, float(math.prod(spatial)))))


@operator("MaxPool", "auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides")
def _max_pool(trace: Trace, call: Call) -> Tensor:
    """A tournament of ``b + relu(a - b)`` under every window, in one or two dimensions: half as many pairs each round.

    Refused: three dimensions; a window wholly in the padding; indices as a second output.
    """
    value = call.view(0)
    spatial = _spatial(call, value)
    window = _window(call, value.shape[1:], _per_axis(call, "kernel_shape", len(spatial), 0))
    image = np.arange(math.prod(spatial), dtype=np.int64).reshape(spatial)
    entries = _under(window, np.pad(image, window.padding, constant_values=-1))
    check_size((value.shape[1], *entries.shape))
    if not (entries >= 0).any(0).all():
        call.refuse("a window lies wholly in the padding")
    # Padding never wins: such a place repeats an entry of its own window instead, which changes no maximum.
    inside = np.take_along_axis(entries, np.argmax(entries >= 0, axis=0)[None], 0)
    entries = np.where(entries >= 0, entries, inside)
    channels = np.arange(value.shape[1], dtype=np.int64)[None, :, None] * math.prod(spatial)
    players = entries.reshape(entries.shape[0], 1, -1) + channels
    shape = (1, value.shape[1], *window.output)
    return tournament(trace, trace.plain(value), players.reshape(entries.shape[0], -1), shape)


@operator("GlobalMaxPool")
def _global_max_pool(trace: Trace, call: Call) -> Tensor:
    """A tournament of ``b + relu(a - b)``."""
    value = call.view(0)
    spatial = _spatial(call, value)
    players = np.arange(value.features, dtype=np.int64).reshape(value.shape[1], -1).T
    shape = (1, value.shape[1], *[1] * len(spatial))
    return tournament(trace, trace.plain(value), players, shape)


def tournament(trace: Trace, node: int, players: NDArray[np.int64], shape: tuple[int, ...]) -> View:
    """Column maxima of ``players`` (indices into the node's vector, shape ``(k, columns)``), as ``shape``.

    By rounds of ``b + relu(a - b)``: every round is one difference, one ReLU and one sum for all pairs at once. Each
    pair is a block of channels, so that what is local in the image stays so.
    """

    def blocks(count: int) -> tuple[int, ...]:
        return (1, count * shape[1], *shape[2:])

    while len(players) > 1:
        source = trace.nodes[node].features
        pairs = len(players) // 2
        first, second, bye = players[:pairs], players[pairs : 2 * pairs], players[2 * pairs :]
        negative = trace.negated(View(node, (source,)))
        opposite = trace.affine([negative], (1, *trace.nodes[node].shape)).node
        games = first.size
        difference: list[tuple[int, LinearMap]] = [
            (node, Gather(first.reshape(-1), source)),
            (opposite, Gather(second.reshape(-1), source)),
        ]
        excess = trace.relu(trace.affine(difference, blocks(pairs))).node
        kept = np.concatenate([second, bye]).reshape(-1)
        won = np.concatenate([np.arange(games, dtype=np.int64), np.full(bye.size, -1, np.int64)])
        node = trace.affine([(node, Gather(kept, source)), (excess, Gather(won, games))], blocks(pairs + len(bye))).node
        players = np.arange(kept.size, dtype=np.int64).reshape(pairs + len(bye), -1)
    flat = players.reshape(-1)
    return trace.rearranged(View(node, (trace.nodes[node].features,)), lambda _: flat.reshape(shape))
