"""Networks that are built to make verifiers err, with the answer over the reals and why it is that.

Most are the same function in disguise: the margin 1/2 − |x0 − x1|, positive on [0, 1/4]² and negative at (3/4, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import TensorProto, helper

import networks
from networks import Clause, Network, Property, Query, Region, Row
from tests.random_networks import model

__all__ = ["CASES", "Case"]

Layer = tuple[Sequence[Sequence[float]], Sequence[float]]

_QUARTER, _LARGE = ([0, 0], [Fraction(1, 4)] * 2), ([0, 0], [Fraction(3, 4)] * 2)


@dataclass(frozen=True, eq=False)
class Case:
    """A query whose answer is known.

    Attributes:
        robust: over the reals.
        why: the reason.
        either: float32 inference answers otherwise, so that a replayed counterexample is right as well.
    """

    name: str
    model: bytes
    box: tuple[Sequence[Any], Sequence[Any]]
    robust: bool
    why: str
    either: bool = False
    prop: Property = field(default_factory=lambda: Property.classification(0, 2))

    def network(self) -> Network:
        return networks.load_bytes(self.model, self.name)

    def query(self) -> Query:
        return Query.single(Region.box(*self.box), self.prop)


def gemms(layers: Sequence[Layer], *, double: bool = False) -> bytes:
    """Gemm layers ``W x + b`` with ReLUs between them."""
    dtype = np.float64 if double else np.float32
    nodes, constants, source = [], {}, "x"
    for i, (weight, bias) in enumerate(layers):
        constants[f"W{i}"], constants[f"b{i}"] = np.array(weight, dtype), np.array(bias, dtype)
        last = i == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [source, f"W{i}", f"b{i}"], ["y" if last else f"z{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"h{i}"]))
            source = f"h{i}"
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT
    return model(nodes, [1, len(layers[0][0][0])], constants, element=element)


def distance(*scales: float, bias: float = 0.5) -> bytes:
    """``bias − |x0 − x1|`` against 0, with layers scaled by these factors, whose product should be 1."""
    first, *between, last = scales
    eye = [[1.0, 0.0], [0.0, 1.0]]
    layers: list[Layer] = [([[first, -first], [-first, first]], [0.0, 0.0])]
    layers += [([[s * v for v in row] for row in eye], [0.0, 0.0]) for s in between]
    layers.append(([[-last, -last], [0.0, 0.0]], [bias, 0.0]))
    return gemms(layers)


def line(weights: Sequence[float], bias: float, *hidden: Layer, double: bool = False) -> bytes:
    """Hidden layers, then ``weights · h + bias`` against 0."""
    last: Layer = ([list(weights), [0.0] * len(weights)], [bias, 0.0])
    return gemms([*hidden, last], double=double)


def pair(name: str, data: bytes, why: str, **more: Any) -> list[Case]:
    """The two boxes of `distance`."""
    return [
        Case(f"{name}, near", data, _QUARTER, robust=True, why=why, **more),
        Case(f"{name}, far", data, _LARGE, robust=False, why=why, **more),
    ]


def _scales() -> list[Case]:
    cases = pair("plain", distance(1, 1), "the function itself")
    for k in (30, 60, 100):
        cases += pair(f"scale 2^{k}", distance(2.0**k, 2.0**-k), "big-M of this size lets anything through")
        cases += pair(f"scale 2^-{k}", distance(2.0**-k, 2.0**k), "coefficients below a solver's zero tolerance")
    cases += pair("subnormal weights", distance(2.0**-140, 2.0**100, 2.0**40), "weights are float32 subnormals")
    cases += pair("float32 overflow", distance(2.0**100, 2.0**100, 2.0**-100, 2.0**-100), "float32 is infinite there")
    up, down = [2.0**120] * 9, [2.0**-120] * 9
    cases += pair("float64 overflow", distance(*up, *down), "float64 is infinite there")
    cases += pair("float64 underflow", distance(*down, *up), "float64 is zero there, so the margin looks like 1/2")
    down, up = [2.0**-120] * 9, [2.0**120] * 8
    low = distance(*up, *down, bias=2.0**-121)
    cases += pair("coefficients underflow", low, "2^-120 (1/2 − |x0 − x1|), from weights whose product is 2^-1080")
    cases += pair("small steps", distance(*[2.0**-8] * 5, *[2.0**8] * 5), "no weight is extreme, their product is")
    mixed: list[Layer] = [
        ([[2.0**100, -(2.0**100)], [-(2.0**-100), 2.0**-100]], [0.0, 0.0]),
        ([[-(2.0**-100), -(2.0**100)], [0.0, 0.0]], [0.5, 0.0]),
    ]
    cases += pair("2^100 beside 2^-100", gemms(mixed), "no scaling of the layer as a whole helps")
    nano: list[Layer] = [([[1e-9, -1e-9], [-1e9, 1e9]], [0.0, 0.0]), ([[-1e9, -1e-9], [0.0, 0.0]], [0.5, 0.0])]
    cases += pair("1e-9 beside 1e9", gemms(nano), "the same, rounded to float32")
    minus: list[Layer] = [([[1.0, -1.0], [-1.0, 1.0]], [-0.0, -0.0]), ([[-1.0, -1.0], [-0.0, -0.0]], [0.5, -0.0])]
    cases += pair("negative zeros", gemms(minus), "−0 is 0")
    return cases


def _ties() -> list[Case]:
    half = ([0, 0], [Fraction(1, 2)] * 2)
    kink = line([1.0, 1.0], 0.0, ([[1.0], [-1.0]], [-0.25, 0.25]))
    copies: list[Layer] = [([[1.0, -1.0]], [0.0]), ([[1.0], [1.0]], [0.5, 0.5])]
    later = [
        helper.make_node("Gemm", ["x", "W", "b"], ["z"], transB=1),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Gemm", ["h", "V", "c"], ["u"], transB=1),
        helper.make_node("Add", ["u", "d"], ["y"]),
    ]
    constants = {
        "W": np.float32([[1, -1], [-1, 1]]),
        "b": np.float32([0, 0]),
        "V": np.float32([[-1, -1], [0, 0]]),
        "c": np.float32([0.5, 0]),
        "d": np.float32([2.0**-60, 0]),
    }
    return [
        Case("tie at corners", distance(1, 1), half, robust=False, why="the margin is 0 at (1/2, 0): a violation"),
        Case("tie inside", kink, ([0], [1]), robust=False, why="|x − 1/4| is 0 at x = 1/4 alone"),
        Case("tie everywhere", gemms(copies), _QUARTER, robust=False, why="both outputs are the same"),
        Case("2^-24 above a tie", distance(1, 1, bias=0.5 + 2.0**-24), half, robust=True, why="the margin is 2^-24"),
        Case("2^-25 below a tie", distance(1, 1, bias=0.5 - 2.0**-25), half, robust=False, why="it is −2^-25"),
        Case(
            "2^-60 above a tie",
            model(later, [1, 2], constants),
            half,
            robust=True,
            why="the margin is 2^-60, which float64 and float32 round away",
            either=True,
        ),
    ]


def _cancellation() -> list[Case]:
    big = 2.0**60
    # h1 − h0 = x1 for x0 ≥ 0, but float64 loses x1 beside 2^60 x0.
    absorbing: Layer = ([[big, 0.0], [big, 1.0]], [0.0, 0.0])
    single = line([-1.0, 1.0], -0.25, ([[2.0**26, 0.0], [2.0**26, 1.0]], [0.0, 0.0]))
    gains, loses = line([-1.0, 1.0], -0.25, absorbing), line([1.0, -1.0], 0.25, absorbing)
    upper = ([Fraction(1, 2), Fraction(1, 2)], [1, Fraction(3, 4)])
    huge = 2.0**100
    shifted: Layer = ([[1.0]], [huge])
    up, down = line([1.0], -0.25, shifted, ([[1.0]], [-huge])), line([-1.0], 0.25, shifted, ([[1.0]], [-huge]))
    less = line([1.0], -0.75, shifted, ([[1.0]], [-huge]))
    twice: Layer = ([[1.0, -1.0], [1.0, -1.0]], [0.0, 0.0])
    residual = [
        helper.make_node("Mul", ["x", "s"], ["big"]),
        helper.make_node("Add", ["big", "x"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["h"]),
        helper.make_node("Sub", ["h", "big"], ["r"]),
        helper.make_node("Gemm", ["r", "V", "c"], ["y"], transB=1),
    ]
    weights = {"s": np.float32(2.0**57), "V": np.float32([[-1, 0], [0, 0]]), "c": np.float32([0.25, 0])}
    skipped = model(residual, [1, 2], weights)
    skip = [
        helper.make_node("Gemm", ["x", "W", "b"], ["z"], transB=1),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Add", ["h", "x"], ["s"]),
        helper.make_node("Sub", ["s", "x"], ["t"]),
        helper.make_node("Gemm", ["t", "V", "c"], ["y"], transB=1),
    ]
    plain = {"W": [[1, -1], [-1, 1]], "b": [0, 0], "V": [[-1, -1], [0, 0]], "c": [0.5, 0]}
    dropped = model(skip, [1, 2], {k: np.float32(v) for k, v in plain.items()})
    return [
        Case("absorbed gain", gains, upper, robust=True, why="the margin is x1 − 1/4, float64 says −1/4", either=True),
        Case("absorbed by float32", single, upper, robust=True, why="x1 − 1/4, where float32 says −1/4", either=True),
        Case("absorbed loss", loses, upper, robust=False, why="the margin is 1/4 − x1, float64 and float32 say 1/4"),
        Case("huge bias, gain", up, ([0.5], [1]), robust=True, why="x − 1/4 after ± 2^100", either=True),
        Case("huge bias, low", less, ([0.5], [1]), robust=False, why="x − 3/4 after ± 2^100, which may swallow 3/4"),
        Case("huge bias, loss", down, ([0.5], [1]), robust=False, why="1/4 − x after ± 2^100, floats say 1/4"),
        Case("copies cancel", line([1.0, -1.0], 0.125, twice), _QUARTER, robust=True, why="h − h + 1/8"),
        Case("copies do not cancel", line([1.0, -2.0], 0.125, twice), _QUARTER, robust=False, why="1/8 − h"),
        Case("skip absorbs", skipped, ([0.5, 0], [1, 1]), robust=False, why="1/4 − x0 after ± 2^57 x0"),
        *pair("skip added and taken away", dropped, "a skip connection that is lost on one side changes the answer"),
        Case(
            "far from zero",
            line([1.0], -(2.0**60) + 2.0**40, ([[1.0]], [0.0])),
            ([2**60], [2**60 + 2**41]),
            robust=True,
            why="x − 2^60 + 2^40 ≥ 2^40",
        ),
        Case(
            "far from zero, low",
            line([1.0], -(2.0**60) - 2.0**40, ([[1.0]], [0.0])),
            ([2**60], [2**60 + 2**41]),
            robust=False,
            why="−2^40 at the left end",
        ),
    ]


def _regions() -> list[Case]:
    above, below = float(np.float32(0.1)), float(np.nextafter(np.float32(0.1), np.float32(0)))
    identity: Layer = ([[1.0]], [0.0])
    tenth = ([0], ["0.1"])
    double = line([-1.0], 0.1, identity, double=True)
    past = line([-1.0], float(np.nextafter(0.1, 0)), identity, double=True)
    point = ([Fraction(1, 10)] * 2, [Fraction(1, 10)] * 2)
    subnormal = line([-(2.0**30)], 0.25, ([[2.0**100]], [0.0]))
    return [
        Case("decimal end", line([-1.0], above, identity), tenth, robust=True, why="float32(0.1) is above 0.1"),
        Case("decimal end, below", line([-1.0], below, identity), tenth, robust=False, why="the float32 below 0.1"),
        Case("decimal end, double", double, tenth, robust=True, why="float64(0.1) is above 0.1 by 5.6e-18"),
        Case("decimal end, double, below", past, tenth, robust=False, why="it reaches 1/10, which is above the bias"),
        Case("third", line([-3.0], 1.0, identity), ([0], ["1/3"]), robust=False, why="1 − 3 · 1/3 is a tie"),
        Case("third, above", line([-3.0], 1.0 + 2.0**-23, identity), ([0], ["1/3"]), robust=True, why="2^-23 more"),
        Case("no width", distance(1, 1), ([0.25, 0], [0.25, 0]), robust=True, why="one point, margin 1/4"),
        Case("no width, bad", distance(1, 1), ([0.75, 0], [0.75, 0]), robust=False, why="one point, margin −1/4"),
        Case("no width, tie", distance(1, 1), ([0.5, 0], [0.5, 0]), robust=False, why="one point, margin 0"),
        Case("no float32", distance(1, 1), point, robust=True, why="no float32 lies there; the margin is 1/2"),
        Case("no float32, bad", distance(1, 1, bias=0.0), point, robust=False, why="a tie at a point no float32 is"),
        Case(
            "one input of no width",
            distance(1, 1),
            ([0, 0.25], [0.5, 0.25]),
            robust=True,
            why="|x0 − 1/4| ≤ 1/4",
        ),
        Case("subnormal inputs", subnormal, ([0], [2.0**-133]), robust=True, why="2^130 x ≤ 1/8"),
        Case("subnormal inputs, far", subnormal, ([0], [2.0**-131]), robust=False, why="2^130 x reaches 1/2"),
    ]


def _phases() -> list[Case]:
    dead: Layer = ([[1.0, 1.0], [-1.0, 1.0]], [-2.0, -2.0])
    edge: Layer = ([[2.0**20], [1.0]], [-(2.0**19), 0.0])
    trickle = line([-1.0, 0.0], 2.0**-10, edge)
    deep = [([[1.0]], [0.0])] * 20
    return [
        Case("all dead", line([-9.0, 9.0], 0.25, dead), _LARGE, robust=True, why="the output is constant, 1/4"),
        Case("all dead, tie", line([-9.0, 9.0], 0.0, dead), _LARGE, robust=False, why="the output is constant, 0"),
        Case("dead at its end", trickle, ([0], [0.5]), robust=True, why="2^20 (x − 1/2) ≤ 0, so 2^-10 is left"),
        Case("alive past its end", trickle, ([0], [0.5 + 2.0**-20]), robust=False, why="1 at the right end"),
        Case("chain", line([-1.0], 0.5, *deep), ([-1], [Fraction(1, 4)]), robust=True, why="1/2 − relu(x)"),
        Case("chain, far", line([-1.0], 0.5, *deep), ([-1], [1]), robust=False, why="1/2 − relu(x)"),
    ]


def _clause(*rows: tuple[int, int, Fraction]) -> Clause:
    return Clause(tuple(Row(((i, Fraction(c)),), d) for i, c, d in rows), 2, "both")


def _properties() -> list[Case]:
    # y = (x, 1/4 − x) with relus that stay active
    both: list[Layer] = [([[1.0]], [1.0]), ([[1.0], [-1.0]], [-1.0, 1.25])]
    zero = Fraction(0)
    conjunction, touching = _clause((0, 1, zero), (1, 1, zero)), _clause((0, 1, zero), (1, 1, Fraction(-1, 4)))
    either = Property((_clause((0, 1, zero)), _clause((1, 1, zero))))
    return [
        Case(
            "conjunction",
            gemms(both),
            ([0], [1]),
            robust=True,
            why="x ≤ 0 and x ≥ 1/4 exclude each other",
            prop=Property((conjunction,)),
        ),
        Case(
            "conjunction, touching",
            gemms(both),
            ([0], [1]),
            robust=False,
            why="x ≤ 0 and −x ≤ 0 meet at 0",
            prop=Property((touching,)),
        ),
        Case("disjunction", gemms(both), ([0], [1]), robust=False, why="1/4 − x ≤ 0 from 1/4 on", prop=either),
        Case("disjunction, inside", gemms(both), (["0.1"], ["0.2"]), robust=True, why="0 < x < 1/4", prop=either),
    ]


def _operators() -> list[Case]:
    leaky = [
        helper.make_node("Gemm", ["x", "W", "b"], ["z"], transB=1),
        helper.make_node("LeakyRelu", ["z"], ["h"], alpha=0.5),
        helper.make_node("Gemm", ["h", "V", "c"], ["y"], transB=1),
    ]
    plain = {"W": [[1, -1], [-1, 1]], "b": [0, 0], "V": [[-1, -1], [0, 0]], "c": [0.25, 0]}
    pool = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "V", "c"], ["y"], transB=1),
    ]
    pooled = model(pool, [1, 1, 2, 2], {"V": np.float32([[1], [0]]), "c": np.float32([-0.5, 0])})
    conv = [
        helper.make_node("Conv", ["x", "K"], ["z"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Flatten", ["h"], ["f"]),
        helper.make_node("Gemm", ["f", "V", "c"], ["y"], transB=1),
    ]
    # every entry of the padded sum is that of all four
    sums = {"K": np.ones((1, 1, 3, 3), np.float32), "V": np.float32([[-1] * 4, [0] * 4]), "c": np.float32([2, 0])}
    padded = model(conv, [1, 1, 2, 2], sums)
    return [
        Case(
            "leaky",
            model(leaky, [1, 2], {k: np.float32(v) for k, v in plain.items()}),
            _QUARTER,
            robust=True,
            why="1/4 − |x0 − x1| / 2",
        ),
        Case(
            "leaky, far",
            model(leaky, [1, 2], {k: np.float32(v) for k, v in plain.items()}),
            _LARGE,
            robust=False,
            why="−1/8 at (3/4, 0); read as Relu it would be −1/2",
        ),
        Case("pool", pooled, ([0, 0, 0, 0.75], [1, 1, 1, 1]), robust=True, why="the largest is at least 3/4"),
        Case("pool, low", pooled, ([0] * 4, [1, 1, 1, 0.5]), robust=False, why="all may be 0"),
        Case("padding", padded, ([0] * 4, ["0.1"] * 4), robust=True, why="4 · 0.4 < 2"),
        Case("padding, far", padded, ([0] * 4, [0.25] * 4), robust=False, why="4 · 1 > 2"),
    ]


CASES = {
    case.name: case
    for group in (_scales, _ties, _cancellation, _regions, _phases, _properties, _operators)
    for case in group()
}
