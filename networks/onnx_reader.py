"""ONNX to the canonical network.

The reader walks the ONNX graph in order, hands every node that the output depends on to its rewrite rule
(`networks.operators`), and drops canonical nodes that nothing uses. What comes out is then compared with ONNX Runtime
on sampled inputs (`networks.comparison`), so that a misread file is refused rather than verified.

Semantics: weights are taken exactly as stored and arithmetic is over the reals. Where a weight has to be computed
(batch normalisation, division by a constant), the network that is verified is the one with the float64 result, and
`Network.notes` says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from networks.errors import NetworkError, NetworkFormatError, NetworkShapeError
from networks.graph import AffineNode, Identity, Network, Node, ReluNode
from networks.onnx_model import MAX_BYTES, array, attributes, decompressed, element_type, opset, parse, read_bytes
from networks.operators import Call, advice, supported
from networks.tracing import Tensor, Trace, View, check_size

__all__ = ["DECISION_OPS", "load", "load_bytes", "needed_nodes"]

DECISION_OPS = ("Softmax", "LogSoftmax")
"""Operators that are left out where they are the last: they keep the order of the outputs."""

_LAYOUT_OPS = {"Cast", "Constant", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""What may follow them: it computes nothing."""


def load(path: str | Path, *, max_bytes: int = MAX_BYTES, compare: bool = True) -> Network:
    """Read a network from a file.

    Args:
        path: an ``.onnx`` or ``.onnx.gz`` file.
        max_bytes: refuse what is larger, before or after decompression.
        compare: compare what was read with ONNX Runtime on sampled inputs.

    Raises:
        NetworkError: the file is no network that can be verified; `load_bytes` has the kinds.
    """
    return load_bytes(read_bytes(path, max_bytes), Path(path).name, max_bytes=max_bytes, compare=compare)


def load_bytes(data: bytes, name: str = "", *, max_bytes: int = MAX_BYTES, compare: bool = True) -> Network:
    """Read an ONNX model, gzipped or not.

    Args:
        data: the file's bytes.
        name: how messages and reports call the network.
        max_bytes: refuse what is larger, before or after decompression.
        compare: compare the result with ONNX Runtime on sampled inputs. Leave it out only where ONNX Runtime must not
            be imported and the file is known to have passed.

    Raises:
        NetworkFormatError: not ONNX, damaged, too large, with external data, or not of one input and one output.
        NetworkShapeError: shapes that stay dynamic, a batch of several inputs, shapes that do not fit.
        NonFiniteWeightError: NaN or infinity among the weights.
        UnsupportedOperatorError: an operator, attribute or operator set outside the supported ones.
        NetworkError: ONNX Runtime refuses the file, or computes something else.
    """
    data = decompressed(data, max_bytes)
    network = _read(parse(data), data, name)
    if compare:
        from networks.comparison import compare_with_runtime

        compare_with_runtime(network)
    return network


def _read(model: Any, data: bytes, name: str) -> Network:
    graph = model.graph
    version = opset(model)
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in initializers]
    if len(inputs) != 1 or len(graph.output) != 1:
        msg = (
            f"a network with one input and one output is needed, this one has inputs {[v.name for v in inputs]} and "
            f"outputs {[v.name for v in graph.output]}"
        )
        raise NetworkFormatError(msg)
    output = graph.output[0].name
    trace = Trace(_input_shape(inputs[0]), inputs[0].name)
    tensors: dict[str, Tensor] = {inputs[0].name: trace.input}
    stripped = ""
    needed = needed_nodes(graph.node, output)
    for i in sorted(needed):
        node = graph.node[i]
        arguments = []
        for source in node.input:
            if source in initializers and source not in tensors:
                tensors[source] = array(initializers[source])
            if source and source not in tensors:
                msg = (
                    f"node {_name(node)!r} ({node.op_type}) reads tensor {source!r}, which nothing produces before it; "
                    "export the network again"
                )
                raise NetworkFormatError(msg)
            arguments.append(tensors[source] if source else None)
        call = Call(node.op_type, _name(node), version, tuple(arguments), attributes(node), len(node.output))
        if node.op_type in DECISION_OPS and all(graph.node[k].op_type in _LAYOUT_OPS for k in needed if k > i):
            tensors[node.output[0]] = _strip(trace, call)
            stripped = node.op_type
            continue
        results = _rewrite(trace, call, node.domain)
        tensors.update(zip(node.output, results, strict=False))
    result = tensors.get(output)
    if not isinstance(result, View):
        msg = f"the output {output!r} does not depend on the input {inputs[0].name!r}, so there is nothing to verify"
        raise NetworkFormatError(msg)
    trace.name = output
    last = trace.plain(result)
    if last == 0:
        last = trace.affine([(0, Identity(result.features))], result.shape).node
    return Network(
        nodes=_pruned(trace.nodes, last),
        model=data,
        sha256=hashlib.sha256(data).hexdigest(),
        name=name,
        notes=tuple(trace.notes),
        stripped=stripped,
    )


def _name(node: Any) -> str:
    return str(node.name or (node.output[0] if node.output else ""))


def needed_nodes(nodes: Any, output: str) -> set[int]:
    """Indices of the ONNX nodes that the output depends on."""
    wanted, needed = {output}, set()
    for i in reversed(range(len(nodes))):
        if wanted.intersection(nodes[i].output):
            needed.add(i)
            wanted.update(nodes[i].input)
    return needed


def _input_shape(value: Any) -> tuple[int, ...]:
    """The input's shape with a batch of one; a symbolic batch dimension is fixed to 1."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        msg = f"the input {value.name!r} has no tensor shape; export the network with a fixed input shape"
        raise NetworkShapeError(msg)
    kind = element_type(value.type.tensor_type.elem_type)
    if kind not in ("float32", "float64"):
        msg = (
            f"the input {value.name!r} has element type {kind}; counterexamples are float32 inputs, so export the "
            "network with a float32 input"
        )
        raise NetworkFormatError(msg)
    dims = value.type.tensor_type.shape.dim
    shape: list[int | str] = [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in dims]
    if len(shape) > 1 and isinstance(shape[0], str):
        shape[0] = 1
    fixed = tuple(d for d in shape if isinstance(d, int))
    if len(fixed) != len(shape) or not shape:
        msg = (
            f"the input {value.name!r} has shape {shape}; every dimension but the first must be a fixed number: "
            "export the network with a fixed input shape"
        )
        raise NetworkShapeError(msg)
    if len(fixed) > 1 and fixed[0] != 1:
        msg = (
            f"the input {value.name!r} has shape {list(fixed)}, a batch of {fixed[0]}; one input at a time is "
            "verified: export the network with a first dimension of 1"
        )
        raise NetworkShapeError(msg)
    check_size(fixed)
    return fixed


def _rewrite(trace: Trace, call: Call, domain: str) -> list[Tensor]:
    operator = supported().get(call.op) if domain in ("", "ai.onnx") else None
    if operator is None:
        prefix = f"{domain}." if domain not in ("", "ai.onnx") else ""
        call.refuse(f"there is no rewrite of {prefix}{call.op} to affine maps and ReLUs; {advice(call.op)}")
    unknown = sorted(set(call.attributes) - operator.attributes)
    if unknown:
        call.refuse(f"attribute {unknown[0]!r} = {call.attributes[unknown[0]]!r} is unknown")
    trace.name = call.name
    try:
        # Overflow shows as an infinite weight, which the trace refuses.
        with np.errstate(all="ignore"):
            result = operator.rule(trace, call)
    except NetworkShapeError as error:
        msg = f"{call.where}: {error}"
        raise NetworkShapeError(msg) from error
    except NetworkError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        # The file is not ours: attributes of the wrong type and shapes that do not fit surface here, from NumPy.
        msg = f"{call.where} does not fit its inputs: {error}"
        raise NetworkShapeError(msg) from error
    return result if isinstance(result, list) else [result]


def _strip(trace: Trace, call: Call) -> Tensor:
    """The logits under a final Softmax or LogSoftmax, which is monotone in each difference of two of them."""
    value = call.view(0)
    axis = int(call.attributes.get("axis", 1 if call.opset < 13 else -1))
    axis += len(value.shape) if axis < 0 else 0
    # Before opset 13 all dimensions from the axis on were normalised together.
    group = value.shape[axis:] if call.opset < 13 else value.shape[axis : axis + 1]
    if int(np.prod(group)) != value.features:
        call.refuse("it does not normalise over all outputs")
    trace.note(
        f"the final {call.op} was left out: the decision is on the logits before it, where the order of the outputs is "
        "the same"
    )
    return value


def _pruned(nodes: list[Node], last: int) -> tuple[Node, ...]:
    """The nodes that node ``last`` depends on, renumbered; the input always stays."""
    kept = {0, last}
    for i in reversed(range(last + 1)):
        node = nodes[i]
        if i in kept and isinstance(node, AffineNode | ReluNode):
            kept.update(node.parents)
    position = {old: new for new, old in enumerate(sorted(kept))}
    out: list[Node] = []
    for i in sorted(kept):
        node = nodes[i]
        if isinstance(node, AffineNode):
            terms = tuple((position[parent], linear) for parent, linear in node.terms)
            node = AffineNode(terms, node.bias, node.shape, node.name)
        elif isinstance(node, ReluNode):
            node = ReluNode(position[node.parent], node.shape, node.name)
        out.append(node)
    return tuple(out)
