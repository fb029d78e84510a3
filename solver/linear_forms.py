"""The linear forms of a query: what unstable ReLUs and specification rows are in terms of inputs and earlier ReLUs.

Stable ReLUs are substituted away (`bounds.encoding`); only what the clauses depend on is kept. The rounding of every
coefficient is charged a priori (`Forms.error`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack

from bounds import Enclosure, Encoding, encode, encode_rows
from bounds.program import Affine, program
from networks.graph import Network, ReluNode
from networks.property import Clause
from networks.region import Region
from solver import sizes
from solver.errors import ModelSizeError, NumericsError

__all__ = ["LARGEST_MODEL", "Forms", "linear_forms", "parent"]

#: Coefficients beyond which a model is not built: building takes minutes and gigabytes, and solving it is hopeless.
LARGEST_MODEL = 5_000_000

# Rows of dense coefficients that are held at a time, before they become sparse.
_CHUNK_ROWS = 256


@dataclass(frozen=True, eq=False)
class Forms:
    """Linear forms ``matrix · (x, h) + constant``, each known up to ``error``; K unstable ReLUs have an h.

    Attributes:
        matrix: shape ``(R, inputs + K)``.
        constant, error: shape ``(R,)``.
    """

    matrix: csr_array
    constant: NDArray[np.float64]
    error: NDArray[np.float64]

    def expressions(self, variables: Sequence[Any]) -> list[Any]:
        """Pyomo expressions of the forms in ``variables``, the Pyomo variables (x, h)."""
        from pyomo.core.expr.numeric_expr import LinearExpression

        starts, columns, values = self.matrix.indptr, self.matrix.indices.tolist(), self.matrix.data.tolist()
        return [
            LinearExpression(
                constant=float(constant),
                linear_coefs=values[start:end],
                linear_vars=[variables[i] for i in columns[start:end]],
            )
            for start, end, constant in zip(starts[:-1], starts[1:], self.constant, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Sparse:
    """An `Encoding` with sparse coefficients."""

    inputs: csr_array
    relus: Mapping[int, csr_array]
    constant: NDArray[np.float64]

    @classmethod
    def of(cls, form: Encoding) -> _Sparse:
        relus = {node: csr_array(coefficients) for node, coefficients in form.relus.items()}
        return cls(csr_array(form.inputs), relus, form.constant)

    @property
    def count(self) -> int:
        """Number of coefficients."""
        return int(self.inputs.nnz + sum(part.nnz for part in self.relus.values()))

    def over(self, chosen: Mapping[int, NDArray[np.bool_]]) -> csr_array:
        """The coefficients of x and of the ``chosen`` unstable ReLUs, node by node."""
        rows = len(self.constant)
        blocks = [
            self.relus[node][:, np.flatnonzero(mask)] if node in self.relus else csr_array((rows, int(mask.sum())))
            for node, mask in chosen.items()
        ]
        return csr_array(hstack([self.inputs, *blocks]))


@dataclass(frozen=True, eq=False)
class _Layer:
    """The unstable ReLUs of one node that matter, with the forms of their ẑ in chunks, and those forms' errors."""

    node: int
    neurons: NDArray[np.int64]
    forms: Sequence[_Sparse]
    error: NDArray[np.float64]


def parent(network: Network, node: int) -> int:
    """The node whose value is the pre-activation of the ReLU node ``node``."""
    relu = network.nodes[node]
    assert isinstance(relu, ReluNode)
    return relu.parent


def _mark(used: dict[int, NDArray[np.bool_]], form: _Sparse) -> None:
    for node, coefficients in form.relus.items():
        used[node][np.unique(coefficients.indices[coefficients.data != 0])] = True


def linear_forms(
    network: Network, region: Region, clauses: Sequence[Clause], enclosure: Enclosure
) -> tuple[tuple[tuple[int, int], ...], Forms, Forms]:
    """The unstable ReLUs that the clauses depend on, the forms of their ẑ, and the forms of the clauses' rows."""
    errors = _rounding_errors(network, region, enclosure)
    C = np.concatenate([clause.matrix for clause in clauses])
    offsets = np.concatenate([clause.offsets for clause in clauses])
    specification = _Sparse.of(encode(network, enclosure, C))
    layers: list[_Layer] = []
    coefficients = specification.count
    used = {node: np.zeros(int(enclosure.unstable(node).sum()), dtype=bool) for node in network.relu_nodes}
    _mark(used, specification)
    for node in reversed(network.relu_nodes):
        neurons = np.flatnonzero(enclosure.unstable(node))[used[node]]
        if not len(neurons):
            continue
        chunks = np.array_split(neurons, -(-len(neurons) // _CHUNK_ROWS))
        forms = []
        for chunk in chunks:
            form = _Sparse.of(encode_rows(network, enclosure, parent(network, node), chunk))
            _mark(used, form)
            forms.append(form)
            coefficients += form.count
            if coefficients > LARGEST_MODEL:
                raise ModelSizeError(sizes.milp(enclosure.unstable_count, LARGEST_MODEL))
        layers.append(_Layer(node, neurons, forms, errors[parent(network, node)][neurons]))
    layers.reverse()

    relus = tuple((layer.node, int(neuron)) for layer in layers for neuron in layer.neurons)
    chosen = {layer.node: used[layer.node] for layer in layers}
    empty = np.zeros(0)
    parts = [form for layer in layers for form in layer.forms]
    affine = Forms(
        csr_array(vstack([csr_array((0, network.inputs + len(relus))), *(part.over(chosen) for part in parts)])),
        np.concatenate([empty, *(part.constant for part in parts)]),
        np.concatenate([empty, *(layer.error for layer in layers)]),
    )
    error = np.abs(C) @ errors[-1] + 2.0**-50 * np.abs(offsets)
    margins = Forms(specification.over(chosen), specification.constant + offsets - error, error)
    for group in (affine, margins):
        if not all(np.isfinite(part).all() for part in (group.matrix.data, group.constant, group.error)):
            msg = "the network's weights are too large: coefficients of the MILP model overflow; use --engine bab"
            raise NumericsError(msg)
    return relus, affine, margins


def _rounding_errors(network: Network, region: Region, enclosure: Enclosure) -> list[NDArray[np.float64]]:
    """For each node, how far the linear forms of its value may be off through rounding, shape ``(features,)``.

    A form is a sum over paths that end at x, at an unstable ReLU or at a bias. With M the same sum of absolute
    values, and n the number of products and sums along the longest path, the rounded form is off by at most ``γ_n M``
    (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1), for any order of summation.
    """
    import torch

    compiled = program(network)
    magnitude = [torch.as_tensor(np.maximum(np.abs(region.lower), np.abs(region.upper)))]
    terms = 16
    for node, step in enumerate(compiled.steps[1:], start=1):
        if isinstance(step, Affine):
            total = step.bias.abs()
            for parent, op in zip(step.parents, step.operators, strict=True):
                total = total + op.abs_forward(magnitude[parent])
            magnitude.append(total)
            terms += step.terms
        else:
            assert step is not None
            active, unstable = torch.as_tensor(enclosure.active(node)), torch.as_tensor(enclosure.unstable(node))
            upper = torch.as_tensor(enclosure.upper[node])
            magnitude.append(torch.where(active, magnitude[step], torch.where(unstable, upper, 0.0)))
    return [(terms * 2.0**-52 * value).numpy() for value in magnitude]
