"""Tiny models, one or more for each operator: a few nodes from input "x" to output "y"."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.random_networks import model

__all__ = ["CASES", "Case", "ints", "node", "one", "weights"]

RNG = np.random.default_rng(7)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One node (or a few) from input "x" of ``shape`` to output "y"."""

    name: str
    nodes: list
    shape: tuple
    constants: dict = field(default_factory=dict)
    opset: int = 17

    def bytes(self):
        return model(self.nodes, list(self.shape), self.constants, opset=self.opset)


def node(op, *inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def one(name, op, shape, *constants, opset=17, first=False, **attributes):
    """A single node: x and then the constants (or the constants first)."""
    named = {f"c{i}": np.asarray(c) for i, c in enumerate(constants)}
    inputs = [*named, "x"] if first else ["x", *named]
    return Case(name, [node(op, *inputs, **attributes)], shape, named, opset)


CASES = [
    one("gemm", "Gemm", (1, 4), weights(4, 3), weights(3)),
    one("gemm transB alpha beta", "Gemm", (1, 4), weights(3, 4), weights(3), alpha=0.3, beta=-2.5, transB=1),
    one("gemm transA", "Gemm", (4, 1)[::-1], weights(3, 4), transB=1),
    one("gemm without bias", "Gemm", (1, 4), weights(4, 3), alpha=2.0),
    one("gemm constant left", "Gemm", (1, 4), weights(3, 1), first=True),
    one("gemm scalar bias", "Gemm", (1, 4), weights(4, 3), weights(1)),
    Case(
        "gemm path as bias",
        [node("Relu", "x", outputs=["h"]), node("Gemm", "x", "W", "h", beta=0.5)],
        (1, 4),
        {"W": weights(4, 4)},
    ),
    one("matmul right", "MatMul", (1, 4), weights(4, 3)),
    one("matmul left", "MatMul", (1, 3, 5), weights(4, 3), first=True),
    one("matmul rows", "MatMul", (1, 3, 5), weights(5, 2)),
    one("matmul stack right", "MatMul", (1, 2, 3, 5), weights(1, 5, 2)),
    one("matmul stack left", "MatMul", (1, 2, 3, 5), weights(4, 3), first=True),
    one("matmul rank one", "MatMul", (5,), weights(5, 2)),
    one("matmul vector", "MatMul", (1, 5), weights(5)),
    one("matmul rank one left", "MatMul", (5,), weights(2, 5), first=True),
    one("add constant", "Add", (1, 2, 3), weights(2, 1)),
    one("add constant first", "Add", (1, 3), weights(1, 3), first=True),
    one("add broadcasts x", "Add", (1, 1), weights(1, 4)),
    Case("add paths", [node("Relu", "x", outputs=["h"]), node("Add", "x", "h")], (1, 4)),
    Case("add itself", [node("Add", "x", "x")], (1, 4)),
    Case(
        "add transposed paths",
        [node("Transpose", "x", outputs=["t"], perm=[0, 2, 1]), node("Add", "x", "t")],
        (1, 3, 3),
    ),
    one("sub constant", "Sub", (1, 2, 3), weights(3)),
    one("sub from constant", "Sub", (1, 3), weights(3), first=True),
    Case("sub paths", [node("Relu", "x", outputs=["h"]), node("Sub", "x", "h")], (1, 4)),
    one("mul", "Mul", (1, 2, 3), weights(2, 1)),
    one("mul first", "Mul", (1, 3), weights(3), first=True),
    one("div", "Div", (1, 3), np.float32([3, -7, 0.5])),
    one("neg", "Neg", (1, 3)),
    one("conv", "Conv", (1, 2, 5, 6), weights(3, 2, 3, 2), weights(3), strides=[2, 1], pads=[1, 0, 2, 1]),
    one("conv 1-d", "Conv", (1, 2, 9), weights(3, 2, 3), dilations=[2], pads=[1, 2]),
    one("conv groups", "Conv", (1, 4, 5, 5), weights(6, 2, 3, 3), weights(6), group=2),
    one("conv depthwise dilated", "Conv", (1, 3, 7, 7), weights(3, 1, 3, 3), group=3, dilations=[2, 1]),
    one("conv same upper", "Conv", (1, 1, 5, 4), weights(2, 1, 2, 3), auto_pad="SAME_UPPER", strides=[2, 1]),
    one("conv same lower", "Conv", (1, 1, 5, 4), weights(2, 1, 2, 4), auto_pad="SAME_LOWER"),
    one("conv valid", "Conv", (1, 1, 5, 5), weights(2, 1, 2, 3), auto_pad="VALID"),
    one("conv transpose", "ConvTranspose", (1, 2, 3, 4), weights(2, 3, 3, 2), weights(3), strides=[2, 1]),
    one(
        "conv transpose padded",
        "ConvTranspose",
        (1, 2, 4, 4),
        weights(2, 3, 3, 3),
        strides=[2, 2],
        pads=[1, 0, 0, 1],
        output_padding=[1, 1],
    ),
    one("conv transpose groups", "ConvTranspose", (1, 4, 3, 3), weights(4, 2, 2, 2), group=2, dilations=[2, 1]),
    one("conv transpose 1-d", "ConvTranspose", (1, 2, 4), weights(2, 1, 3), strides=[3], output_shape=[11]),
    one("conv transpose same lower", "ConvTranspose", (1, 1, 3), weights(1, 1, 4), strides=[1], auto_pad="SAME_LOWER"),
    one(
        "conv transpose same upper",
        "ConvTranspose",
        (1, 1, 3, 3),
        weights(1, 1, 3, 3),
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    one(
        "batch normalisation",
        "BatchNormalization",
        (1, 3, 2, 2),
        weights(3),
        weights(3),
        weights(3),
        np.abs(weights(3)) + np.float32(0.1),
        epsilon=1e-3,
    ),
    one("average pool", "AveragePool", (1, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 1]),
    one("average pool 1-d", "AveragePool", (1, 2, 7), kernel_shape=[3], strides=[2]),
    one("average pool padded", "AveragePool", (1, 1, 4, 4), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    one(
        "average pool counts pads",
        "AveragePool",
        (1, 1, 4, 4),
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    one("average pool same", "AveragePool", (1, 1, 5, 5), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    one("global average pool", "GlobalAveragePool", (1, 3, 3, 4)),
    one("max pool", "MaxPool", (1, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 2]),
    one("max pool padded", "MaxPool", (1, 1, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    one("max pool 1-d dilated", "MaxPool", (1, 2, 9), kernel_shape=[3], dilations=[2]),
    one("max pool ceil", "MaxPool", (1, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    one("max pool same", "MaxPool", (1, 1, 5, 5), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    one("global max pool", "GlobalMaxPool", (1, 2, 3, 3)),
    one("relu", "Relu", (1, 4)),
    one("leaky relu", "LeakyRelu", (1, 4), alpha=0.1),
    one("leaky relu default", "LeakyRelu", (1, 4)),
    one("leaky relu steep", "LeakyRelu", (1, 4), alpha=1.7),
    one("leaky relu negative", "LeakyRelu", (1, 4), alpha=-0.3),
    one("prelu", "PRelu", (1, 3, 2, 2), weights(3, 1, 1)),
    one("clip", "Clip", (1, 6), np.float32(-0.5), np.float32(0.75)),
    one("clip of old opsets", "Clip", (1, 6), opset=7, min=0.0, max=0.5),
    one("clip below", "Clip", (1, 6), np.float32(0.25)),
    Case("clip above", [node("Clip", "x", "", "h")], (1, 6), {"h": np.float32(0.25)}),
    one("clip without bounds", "Clip", (1, 6), np.float32(-np.inf), np.float32(np.inf)),
    one("abs", "Abs", (1, 4)),
    one("max constant", "Max", (1, 4), weights(4)),
    one("min constant", "Min", (1, 4), weights(4), first=True),
    Case("max paths", [node("Neg", "x", outputs=["h"]), node("Max", "x", "h", "c")], (1, 4), {"c": np.float32([0.2])}),
    Case("min paths", [node("Neg", "x", outputs=["h"]), node("Min", "x", "h", "c")], (1, 4), {"c": np.float32([-0.2])}),
    one("flatten", "Flatten", (1, 2, 3)),
    one("flatten axis", "Flatten", (1, 2, 3), axis=-1),
    one("reshape", "Reshape", (1, 2, 6), ints(0, -1, 3)),
    one("squeeze", "Squeeze", (1, 3, 1), ints(2)),
    one("squeeze all", "Squeeze", (1, 3, 1)),
    one("squeeze of old opsets", "Squeeze", (1, 3, 1), axes=[2], opset=11),
    one("unsqueeze", "Unsqueeze", (1, 3), ints(0, 3)),
    one("unsqueeze of old opsets", "Unsqueeze", (1, 3), axes=[1], opset=11),
    one("transpose", "Transpose", (1, 2, 3, 4), perm=[0, 3, 1, 2]),
    one("transpose default", "Transpose", (1, 2, 3)),
    one("expand", "Expand", (1, 1, 3), ints(1, 2, 3)),
    one("identity", "Identity", (1, 3)),
    one("dropout", "Dropout", (1, 3)),
    one("dropout of old opsets", "Dropout", (1, 3), ratio=0.5, opset=9),
    one("cast", "Cast", (1, 3), to=TensorProto.FLOAT),
    Case(
        "cast of weights",
        [node("Cast", "w", outputs=["W"], to=TensorProto.FLOAT), node("MatMul", "x", "W")],
        (1, 3),
        {"w": weights(3, 2).astype(np.float16)},
    ),
    Case(
        "constant",
        [node("Constant", outputs=["c"], value=numpy_helper.from_array(weights(3))), node("Add", "x", "c")],
        (1, 3),
    ),
    Case("constant floats", [node("Constant", outputs=["c"], value_floats=[1.5, 2.0]), node("Add", "x", "c")], (1, 2)),
    Case(
        "constant of shape",
        [
            node("Shape", "x", outputs=["s"]),
            node("ConstantOfShape", "s", outputs=["c"], value=numpy_helper.from_array(np.float32([2.5]))),
            node("Add", "x", "c"),
        ],
        (1, 3),
    ),
    Case(
        "shape arithmetic",
        [
            node("Shape", "x", outputs=["s"]),
            node("Gather", "s", "zero", outputs=["n"]),
            node("Unsqueeze", "n", "axes", outputs=["m"]),
            node("Concat", "m", "rest", outputs=["target"], axis=0),
            node("Reshape", "x", "target"),
        ],
        ("N", 2, 3),
        {"zero": np.array(0), "axes": ints(0), "rest": ints(-1)},
    ),
    Case(
        "arithmetic of constants",
        [
            node("Mul", "a", "b", outputs=["ab"]),
            node("Sub", "ab", "b", outputs=["c"]),
            node("Div", "c", "b", outputs=["d"]),
            node("Add", "d", "a", outputs=["e"]),
            node("Neg", "e", outputs=["f"]),
            node("Add", "x", "f"),
        ],
        (1, 3),
        {"a": weights(3), "b": np.abs(weights(3)) + np.float32(0.5)},
    ),
    Case(
        "matmul of constants",
        [node("MatMul", "a", "b", outputs=["W"]), node("MatMul", "x", "W")],
        (1, 3),
        {"a": weights(3, 4), "b": weights(4, 2)},
    ),
    Case(
        "concat",
        [node("Relu", "x", outputs=["h"]), node("Concat", "h", "c", "x", axis=1)],
        (1, 3, 2),
        {"c": weights(1, 1, 2)},
    ),
    Case(
        "concat of one source",
        [node("Split", "x", outputs=["a", "b"], axis=1), node("Concat", "b", "a", axis=1)],
        (1, 4),
    ),
    one("slice", "Slice", (1, 6, 3), ints(1), ints(5), ints(1), ints(2)),
    one("slice backwards", "Slice", (1, 6), ints(-1), ints(-(2**63)), ints(1), ints(-2)),
    one("slice of old opsets", "Slice", (1, 6), starts=[2], ends=[2**31], axes=[1], opset=9),
    Case("split", [node("Split", "x", "sizes", outputs=["a", "y"], axis=1)], (1, 5), {"sizes": ints(2, 3)}),
    Case("split of old opsets", [node("Split", "x", outputs=["a", "y"], axis=1, split=[1, 4])], (1, 5), opset=11),
    Case("split uneven", [node("Split", "x", outputs=["a", "y"], axis=1, num_outputs=2)], (1, 5), opset=18),
    one("gather", "Gather", (1, 4, 3), ints(2, 0, 2), axis=1),
    one("pad", "Pad", (1, 1, 2, 3), ints(0, 0, 1, 0, 0, 0, 2, 1)),
    one("pad with a value", "Pad", (1, 3), ints(0, 1, 0, 2), np.float32(1.5)),
    one("pad of old opsets", "Pad", (1, 3), pads=[0, 1, 0, 2], mode="constant", opset=9),
    one("pad reflect", "Pad", (1, 4), ints(0, 2, 0, 1), mode="reflect"),
    one("pad edge", "Pad", (1, 4), ints(0, 2, 0, 1), mode="edge"),
    one("reduce sum", "ReduceSum", (1, 2, 3, 4), ints(1, 3)),
    one("reduce sum of all", "ReduceSum", (1, 2, 3), keepdims=0),
    one("reduce mean", "ReduceMean", (1, 2, 3, 4), axes=[-2], keepdims=0),
    one("reduce mean of channels last", "ReduceMean", (1, 4, 4, 2), axes=[1, 2]),
    one("reduce mean of nothing", "ReduceMean", (1, 3), axes=[0]),
    Case(
        "channels last",
        [
            node("Transpose", "x", outputs=["t"], perm=[0, 3, 1, 2]),
            node("Conv", "t", "K", outputs=["z"], auto_pad="SAME_UPPER"),
            node("MaxPool", "z", outputs=["m"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Transpose", "m", outputs=["u"], perm=[0, 2, 3, 1]),
            node("Add", "u", "b", outputs=["v"]),
            node("ReduceMean", "v", axes=[1, 2], keepdims=0),
        ],
        (1, 4, 4, 2),
        {"K": weights(3, 2, 3, 3), "b": weights(3)},
    ),
    Case(
        "relu of a transpose",
        [node("Transpose", "x", outputs=["t"], perm=[0, 2, 1]), node("Relu", "t", outputs=["h"]), node("Flatten", "h")],
        (1, 2, 3),
    ),
    Case(
        "matmul of a slice",
        [node("Split", "x", outputs=["a", "b"], axis=1), node("MatMul", "b", "W")],
        (1, 6),
        {"W": weights(3, 2)},
    ),
    Case(
        "matmul of repeated entries",
        [node("Gather", "x", "i", outputs=["g"], axis=1), node("MatMul", "g", "W")],
        (1, 3),
        {"i": ints(0, 0, 2), "W": weights(3, 2)},
    ),
    Case("sum", [node("Neg", "x", outputs=["h"]), node("Sum", "x", "c", "h", "x")], (1, 3), {"c": weights(2, 3)}),
    Case("sum of constants", [node("Sum", "c", "c", outputs=["s"]), node("Add", "x", "s")], (1, 3), {"c": weights(3)}),
    Case("mean", [node("Relu", "x", outputs=["h"]), node("Mean", "x", "h", "c")], (1, 3), {"c": weights(3)}),
    one("hard sigmoid", "HardSigmoid", (1, 5), alpha=0.3, beta=0.4),
    one("hard sigmoid default", "HardSigmoid", (1, 5)),
    one("soft shrinkage", "Shrink", (1, 5), bias=0.5),
    Case("sign of weights", [node("Sign", "w", outputs=["W"]), node("MatMul", "x", "W")], (1, 3), {"w": weights(3, 2)}),
    one("matmul stack of weights right", "MatMul", (1, 2, 3, 4), weights(2, 4, 2)),
    one("matmul stack of weights left", "MatMul", (1, 2, 4, 3), weights(2, 2, 4), first=True),
    one("matmul one for several weights", "MatMul", (1, 4), weights(3, 4, 2)),
    one("matmul vector for several", "MatMul", (4,), weights(3, 4, 2)),
    one("average pool ceil", "AveragePool", (1, 1, 6, 5), kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, opset=19),
    one(
        "average pool ceil counts pads",
        "AveragePool",
        (1, 1, 6, 5),
        kernel_shape=[3, 2],
        strides=[2, 2],
        pads=[1, 0, 1, 0],
        ceil_mode=1,
        count_include_pad=1,
        opset=19,
    ),
    one("average pool dilated", "AveragePool", (1, 1, 7), kernel_shape=[2], dilations=[2], pads=[1, 1], opset=19),
    one("pad negative", "Pad", (1, 2, 5), ints(0, 0, -1, 0, 1, -2), np.float32(0.5)),
    one("pad negative of zeros", "Pad", (1, 2, 5), ints(0, 1, 1, 0, -1, -2)),
    one("pad wrap", "Pad", (1, 4), ints(0, 2, 0, 1), mode="wrap", opset=19),
    one("reduce max", "ReduceMax", (1, 3, 2, 2), axes=[1]),
    one("reduce max of an input", "ReduceMax", (1, 2, 3), ints(2), keepdims=0, opset=18),
    one("reduce max of one", "ReduceMax", (1, 2), axes=[0], keepdims=0),
    one("reduce min", "ReduceMin", (1, 3, 2), axes=[1, 2]),
    one("tile", "Tile", (1, 2, 2), ints(1, 2, 3)),
    Case(
        "where picks paths",
        [node("Neg", "x", outputs=["h"]), node("Where", "m", "x", "h")],
        (1, 2, 3),
        {"m": np.array([True, False, True])},
    ),
    Case(
        "where masks",
        [node("Where", "m", "x", "c")],
        (1, 2, 3),
        {"m": np.array([[True], [False]]), "c": np.float32(-2.5)},
    ),
    Case(
        "expand as torch exports it",
        [
            node("Shape", "x", outputs=["s"]),
            node("Size", "s", outputs=["r"]),
            node("ConstantOfShape", "rank", outputs=["ones"], value=numpy_helper.from_array(ints(1))),
            node("Mul", "ones", "minus", outputs=["target"]),
            node("Equal", "wanted", "target", outputs=["free"]),
            node("Where", "free", "ones", "wanted", outputs=["shape"]),
            node("Expand", "x", "shape", outputs=["e"]),
            node("Cast", "r", outputs=["f"], to=TensorProto.FLOAT),
            node("Mul", "e", "f"),
        ],
        (1, 1, 3),
        {"rank": ints(3), "minus": ints(-1), "wanted": ints(-1, 2, -1)},
    ),
    Case(
        "comparisons of constants",
        [
            node("Range", "zero", "four", "one", outputs=["i"]),
            node("Less", "i", "two", outputs=["a"]),
            node("Greater", "i", "two", outputs=["b"]),
            node("LessOrEqual", "i", "one", outputs=["c"]),
            node("GreaterOrEqual", "i", "two", outputs=["d"]),
            node("Or", "a", "b", outputs=["e"]),
            node("And", "c", "e", outputs=["f"]),
            node("Not", "f", outputs=["g"]),
            node("Equal", "d", "g", outputs=["m"]),
            node("Where", "m", "x", "w"),
        ],
        (1, 4),
        {"zero": np.array(0), "one": np.array(1), "two": np.array(2), "four": np.array(4), "w": weights(4)},
    ),
    Case(
        "normalisation that was not folded",
        [
            node("Pow", "m", "two", outputs=["v"]),
            node("Sqrt", "v", outputs=["d"]),
            node("Reciprocal", "d", outputs=["f"]),
            node("Mul", "x", "f"),
        ],
        (1, 3),
        {"m": np.float32([0.5, 3, 7]), "two": np.float32(2)},
    ),
    one("depth to space", "DepthToSpace", (1, 8, 2, 1), blocksize=2),
    one("depth to space columns", "DepthToSpace", (1, 8, 1, 2), blocksize=2, mode="CRD"),
    one("space to depth", "SpaceToDepth", (1, 1, 4, 2), blocksize=2),
    one("upsample", "Upsample", (1, 1, 2, 3), np.float32([1, 1, 2, 2]), mode="nearest", opset=9),
    one("upsample of old opsets", "Upsample", (1, 1, 2, 3), scales=[1.0, 1.0, 2.0, 1.5], opset=7),
    one("resize of old opsets", "Resize", (1, 1, 2, 3), np.float32([1, 1, 2, 2]), mode="nearest", opset=10),
    *(
        Case(
            f"resize {coordinates} {rounding}",
            [
                node(
                    "Resize",
                    "x",
                    "",
                    "s",
                    coordinate_transformation_mode=coordinates,
                    nearest_mode=rounding,
                )
            ],
            (1, 1, 3, 4),
            {"s": np.float32([1, 1, 2, 1.5])},
        )
        for coordinates, rounding in [
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
            ("pytorch_half_pixel", "floor"),
            ("asymmetric", "ceil"),
            ("align_corners", "floor"),
        ]
    ),
    Case("resize to sizes", [node("Resize", "x", "", "", "n")], (1, 1, 2, 3), {"n": ints(1, 1, 5, 2)}),
]
