"""The canonical network: a DAG of one input, affine maps and ReLUs.

Everything after loading sees this form. Values are flat vectors of float64 in C order; the shapes that
ONNX gave them are kept for display only. A node refers to its parents by index, parents come first,
node 0 is the input and the last node is the output.

An affine node computes ``y = Σ_i L_i(h_i) + b`` where ``h_i`` are the values of its parents, each ``L_i`` is
a linear map kept as an operator (a convolution stays one) and ``b`` is the bias. A residual Add or a
Concat is an affine node with several terms. Weights are the stored ones, exactly (float16 and
float32 are exact in float64); nothing is folded where folding would round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AffineNode",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Gather",
    "Identity",
    "InputNode",
    "LinearMap",
    "Network",
    "Node",
    "ReluNode",
    "Scale",
]

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """``y = h``, for vectors of ``features`` entries."""

    features: int

    @property
    def in_features(self) -> int:
        return self.features

    @property
    def out_features(self) -> int:
        return self.features


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """``y = W h`` with ``weight`` W of shape ``(out_features, in_features)``, float64."""

    weight: Array

    @property
    def in_features(self) -> int:
        return int(self.weight.shape[1])

    @property
    def out_features(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """``y = s ⊙ h`` with ``factors`` s of shape ``(features,)``, float64."""

    factors: Array

    @property
    def in_features(self) -> int:
        return int(self.factors.shape[0])

    @property
    def out_features(self) -> int:
        return int(self.factors.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Gather:
    """``y_i = h[indices_i]``, and 0 where ``indices_i`` is -1 (padding).

    ``indices`` has shape ``(out_features,)``, int64. Transposes, slices, constant gathers and zero padding
    are of this form; an index may occur any number of times.
    """

    indices: NDArray[np.int64]
    in_features: int

    @property
    def out_features(self) -> int:
        return int(self.indices.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """Cross-correlation as ONNX ``Conv``, without bias, over 1 or 2 spatial dimensions.

    ``weight`` has shape ``(C_out, C_in / groups, *kernel)``; ``input_shape`` is ``(C_in, *spatial)`` and
    ``output_shape`` ``(C_out, *spatial)``, without a batch dimension. ``padding`` holds zeros (before, after) for each
    spatial dimension.
    """

    weight: Array
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def in_features(self) -> int:
        return math.prod(self.input_shape)

    @property
    def out_features(self) -> int:
        return math.prod(self.output_shape)


@dataclass(frozen=True, slots=True, eq=False)
class ConvTranspose:
    """Transposed convolution as ONNX ``ConvTranspose``, without bias.

    ``weight`` has shape ``(C_in, C_out / groups, *kernel)``; ``padding`` is what ONNX calls pads (cropped from the full
    output, before and after) and ``output_padding`` extends the far end, for each spatial dimension.
    """

    weight: Array
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def in_features(self) -> int:
        return math.prod(self.input_shape)

    @property
    def out_features(self) -> int:
        return math.prod(self.output_shape)


LinearMap: TypeAlias = Identity | Dense | Scale | Gather | Conv | ConvTranspose


@dataclass(frozen=True, slots=True, eq=False)
class InputNode:
    """The network's input, of ``shape`` without the batch dimension."""

    shape: tuple[int, ...]
    name: str = "input"

    @property
    def features(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class AffineNode:
    """``y = Σ L_i(h_{parent_i}) + bias``; ``terms`` holds pairs (parent index, L_i), ``bias`` shape ``(features,)``."""

    terms: tuple[tuple[int, LinearMap], ...]
    bias: Array
    shape: tuple[int, ...]
    name: str = ""

    @property
    def features(self) -> int:
        return int(self.bias.shape[0])

    @property
    def parents(self) -> tuple[int, ...]:
        return tuple(parent for parent, _ in self.terms)


@dataclass(frozen=True, slots=True, eq=False)
class ReluNode:
    """``h = max(z, 0)`` element by element, z the value of ``parent``."""

    parent: int
    shape: tuple[int, ...]
    name: str = ""

    @property
    def features(self) -> int:
        return math.prod(self.shape)

    @property
    def parents(self) -> tuple[int, ...]:
        return (self.parent,)


Node: TypeAlias = InputNode | AffineNode | ReluNode


@dataclass(frozen=True, eq=False)
class Network:
    """A loaded network.

    Attributes:
        nodes: topologically ordered; ``nodes[0]`` is the input, ``nodes[-1]`` the output.
        model: the ONNX file's bytes (decompressed); replay runs these, not our reading of them.
        sha256: hex digest of ``model``.
        name: the file's name, for messages.
        notes: what the loader changed knowingly, e.g. that a final Softmax was stripped.
        stripped: the operator of a final Softmax or LogSoftmax that was left out, else "". The nodes then give the
            logits while ``model`` gives (log) probabilities: only the sign of a difference of two outputs means the
            same in both.
    """

    nodes: tuple[Node, ...]
    model: bytes = field(repr=False)
    sha256: str
    name: str = ""
    notes: tuple[str, ...] = ()
    stripped: str = ""

    def __repr__(self) -> str:
        """The facts in one line: in notebooks and messages, the weights of ``nodes`` would bury them."""
        shape = "×".join(map(str, self.input_shape))
        return (
            f"<Network {self.name!r}: input {shape}, {self.outputs} outputs, {self.relus} ReLUs, "
            f"sha256 {self.sha256[:16]}…>"
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.nodes[0].shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.nodes[-1].shape

    @property
    def inputs(self) -> int:
        """Number of input entries."""
        return self.nodes[0].features

    @property
    def outputs(self) -> int:
        """Number of output entries."""
        return self.nodes[-1].features

    @cached_property
    def relu_nodes(self) -> tuple[int, ...]:
        """Indices of the ReLU nodes, in topological order."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node, ReluNode))

    @property
    def relus(self) -> int:
        """Number of single ReLUs."""
        return sum(self.nodes[i].features for i in self.relu_nodes)

    @cached_property
    def parameters(self) -> int:
        """Number of stored weights and biases."""
        total = 0
        for node in self.nodes:
            if isinstance(node, AffineNode):
                total += node.features
                for _, linear in node.terms:
                    if isinstance(linear, Dense | Conv | ConvTranspose):
                        total += linear.weight.size
                    elif isinstance(linear, Scale):
                        total += linear.factors.size
        return total
