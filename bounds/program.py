"""A network compiled for torch: its operators on one device, and plain evaluation with gradients."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.operators import Operator, operator
from networks.graph import AffineNode, Identity, InputNode, Network, ReluNode, Scale

__all__ = ["Affine", "Program", "program"]


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine node: ``Σ op(h_parent) + bias``; ``terms`` counts the summands of the longest sum that occurs in it."""

    parents: tuple[int, ...]
    operators: tuple[Operator, ...]
    bias: Tensor
    terms: int


@dataclass(frozen=True, eq=False)
class Program:
    """The steps of a network, one per node.

    Attributes:
        steps: None for the input, an int (the parent) for a ReLU, or an `Affine`.
        features: entries of each node's value.
        shapes: shape of each node's value, without a batch dimension.
        boxed: whether interval arithmetic is already exact at the node, because no two paths meet and no ReLU lies
            between the input and it.
    """

    steps: tuple[int | Affine | None, ...]
    features: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    boxed: tuple[bool, ...]
    dtype: torch.dtype
    device: torch.device

    def forward(self, x: Tensor, *, leak: float = 0.0) -> Tensor:
        """The network's output for each row of ``x``: ``(B, inputs) → (B, outputs)``; differentiable.

        With a positive ``leak``, gradients take that for an inactive ReLU's slope; the output is the same.
        """
        values: list[Tensor] = []
        for step in self.steps:
            if step is None:
                values.append(x)
            elif isinstance(step, int):
                values.append(values[step].clamp(min=0))
                if leak:
                    inactive = values[step].clamp(max=0)
                    values[-1] = values[-1] + leak * (inactive - inactive.detach())
            else:
                total = step.bias
                for parent, op in zip(step.parents, step.operators, strict=True):
                    total = total + op.forward(values[parent])
                values.append(total)
        return values[-1]

    def parent(self, relu: int) -> int:
        """The node whose value is the pre-activation of the ReLU node ``relu``."""
        step = self.steps[relu]
        assert isinstance(step, int)
        return step

    @property
    def relus(self) -> tuple[int, ...]:
        """Indices of the ReLU nodes."""
        return tuple(i for i, step in enumerate(self.steps) if isinstance(step, int))


_programs: weakref.WeakKeyDictionary[Network, dict[tuple[str, torch.dtype], Program]] = weakref.WeakKeyDictionary()


def program(network: Network, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Program:
    """The compiled ``network``; compiled once per network, device and dtype."""
    cache = _programs.setdefault(network, {})
    key = (device, dtype)
    if key not in cache:
        cache[key] = _compile(network, torch.device(device), dtype)
    return cache[key]


def _compile(network: Network, device: torch.device, dtype: torch.dtype) -> Program:
    steps: list[int | Affine | None] = []
    boxed: list[bool] = []
    elementwise: list[bool] = []  # the node's entries depend on one input entry each, so its values fill a box
    for node in network.nodes:
        if isinstance(node, InputNode):
            steps.append(None)
            boxed.append(True)
            elementwise.append(True)
        elif isinstance(node, ReluNode):
            steps.append(node.parent)
            boxed.append(False)
            elementwise.append(False)
        else:
            assert isinstance(node, AffineNode)
            shapes = [(network.nodes[parent].shape, node.shape) for parent in node.parents]
            operators = tuple(
                operator(linear, device, dtype, each) for (_, linear), each in zip(node.terms, shapes, strict=True)
            )
            terms = sum(max(op.forward_terms, op.adjoint_terms) for op in operators) + len(operators) + 1
            bias = torch.tensor(node.bias, dtype=dtype, device=device)
            steps.append(Affine(node.parents, operators, bias, terms))
            boxed.append(len(node.terms) == 1 and elementwise[node.parents[0]])
            elementwise.append(boxed[-1] and isinstance(node.terms[0][1], Identity | Scale))
    features = tuple(node.features for node in network.nodes)
    return Program(tuple(steps), features, tuple(node.shape for node in network.nodes), tuple(boxed), dtype, device)
