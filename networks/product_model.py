"""The ONNX models of product networks.

A model depends on the given files alone, and its bytes are the same on every machine: an auditor builds it again and
compares the digest. Nodes and weights of the parts are copied with a prefix; what is added around them only selects,
reshapes and concatenates, so that no number is rounded on the way into a part or out of it.

**Pairs.** Bounds of two copies lose what the copies have in common: the difference of two ReLUs is bounded by their
range, however near their inputs are. So where both parts have the same layers, a third part computes the second network
once more, from the differences: with z, z' the inputs of two corresponding ReLUs, e = z' − z, p = relu(e), n = p − e,

    relu(z') = relu(z) + min(p, relu(z + p)) − min(n, relu(z)),    min(a, b) = relu(a − relu(a − b)) for a, b ≥ 0,

where p and n, so also every bound of the difference, shrink with e. The outer ReLU of a minimum, which changes nothing,
is what tells bounds that it is not negative: without it they lose a factor for each layer. Over the reals the
third part is the second; a violation has to show on both, so what is replayed is the network as it was given, and
what is proved may use either. A pair has eight ReLUs, of which those whose inputs hardly vary are unstable only by
rounding; so networks of more than `PAIRED_RELUS` ReLUs, which are asked about small regions, have pairs only if asked
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from networks.errors import NetworkError, NetworkFormatError, NetworkShapeError
from networks.graph import Network
from networks.onnx_model import element_type, opset, parse
from networks.onnx_reader import load_bytes, needed_nodes

__all__ = ["PAIRED_RELUS", "check_sizes", "equivalence_model", "monotone_model"]

PAIRED_RELUS = 2048
"""Networks of at most this many ReLUs are paired unless told otherwise."""

_OLDEST_IR = 4
"""The first ONNX IR version in which weights need not be inputs of the graph as well."""

_ONNX_TYPES = {"float32": 1, "float64": 11}
"""Codes of ``onnx.TensorProto.DataType``."""


def equivalence_model(first: bytes, second: bytes, *, paired: bool | None = None) -> bytes:
    """The ONNX model ``x ↦ (f(x), g(x))``: input "x" of shape ``(1, n)``, output "y" of shape ``(1, 2·m)``.

    Where the networks have the same layers, the output is ``(f(x), g(x), g(x))`` of shape ``(1, 3·m)``, the last
    computed from pairs.

    A final Softmax or LogSoftmax of a part is left out.

    Args:
        first, second: two ONNX models with the same numbers of inputs and of outputs, decompressed.
        paired: whether there are pairs; None leaves it to the number of ReLUs.

    Raises:
        NetworkError: a model is not supported, they differ in the number of inputs, or they use versions of the ONNX
            operators between which an operator of one of them changed its meaning.
    """
    networks = [load_bytes(data, compare=False) for data in (first, second)]
    check_sizes(*networks)
    models = [parse(data) for data in (first, second)]
    version = _common_opset(models, networks)
    one, other = (_Part(network, model) for network, model in zip(networks, models, strict=True))
    # float32 inputs are what is replayed; they are exact in float64.
    builder = _Builder("float32" if "float32" in {one.element, other.element} else "float64")
    relus = builder.part(one, "part0/", "weights0/", None, {})
    builder.part(other, "part1/", "weights1/", None, {})
    if relus and _wanted(paired, networks[0]) and one.element == other.element and one.layers == other.layers:
        builder.part(other, "pairs/", "weights1/", None, relus)
    return builder.model(networks[0].inputs, version, max(_OLDEST_IR, *(model.ir_version for model in models)))


def monotone_model(model: bytes, input_index: int, *, paired: bool | None = None) -> bytes:
    """The ONNX model ``(x, t) ↦ (f(x), f(x'))`` where x' is x with ``max(x_i, t)`` as its entry i, ``input_index``.

    As x and t range over a box, (x, x') ranges over all pairs in it of which the second is raised in that entry alone.
    The input "x" has shape ``(1, n + 1)``. The output "y" has shape ``(1, 2·m)``; where there are pairs, the output is
    ``(f(x), f(x'), f(x'))`` of shape ``(1, 3·m)``, the last computed from them.

    Args:
        model: an ONNX model, decompressed.
        input_index: which entry is raised, in C order.
        paired: see `equivalence_model`.

    Raises:
        NetworkError: the model is not supported.
    """
    network = load_bytes(model, compare=False)
    part = _Part(network, parse(model))
    builder = _Builder(part.element)
    inputs = network.inputs
    entries = [
        builder.add("Gather", ["x", builder.constant(f"{name}_entry", [index])], name, axis=1)
        for name, index in (("t", inputs), ("raised", input_index))
    ]
    # In this order the rise max(x_i, t) − x_i is a ReLU of the canonical network, and known not to be negative.
    builder.add("Concat", ["x", builder.add("Max", entries, "top")], "all", axis=1)
    same = list(range(inputs))
    others = [*same[:input_index], inputs + 1, *same[input_index + 1 :]]
    relus = builder.part(part, "part0/", "weights/", ("x", same), {})
    builder.part(part, "part1/", "weights/", ("all", others), {})
    if relus and _wanted(paired, network):
        builder.part(part, "pairs/", "weights/", ("all", others), relus)
    return builder.model(inputs + 1, opset(part.model), max(_OLDEST_IR, part.model.ir_version))


def _wanted(paired: bool | None, network: Network) -> bool:
    return network.relus <= PAIRED_RELUS if paired is None else paired


def check_sizes(first: Network, second: Network) -> None:
    """Refuses networks that differ in the number of inputs or outputs.

    Raises:
        NetworkShapeError: they do.
    """
    if first.inputs != second.inputs:
        msg = f"networks of the same number of inputs are compared, these have {first.inputs} and {second.inputs}"
        raise NetworkShapeError(msg)
    if first.outputs != second.outputs:
        msg = f"networks of the same number of outputs are compared, these have {first.outputs} and {second.outputs}"
        raise NetworkShapeError(msg)


@dataclass(eq=False)
class _Part:
    """A network that is copied into a product.

    Attributes:
        nodes: what its output depends on, in order.
        output: the name of its output, under a final Softmax.
        element: the type of its numbers.
    """

    network: Network
    model: Any
    nodes: list[Any] = field(init=False)
    output: str = field(init=False)
    element: str = field(init=False)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.output = graph.output[0].name
        needed = needed_nodes(graph.node, self.output)
        if self.network.stripped:
            last = max(i for i in needed if self.output in graph.node[i].output)
            self.output = graph.node[last].input[0]
            needed = needed_nodes(graph.node, self.output)
        self.nodes = [graph.node[i] for i in sorted(needed)]
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.input = next(value for value in graph.input if value.name not in self.tensors)
        self.element = element_type(self.input.type.tensor_type.elem_type)

    @property
    def shape(self) -> list[int]:
        """The input's shape with a batch of one; the loader has seen that only the first dimension may be open."""
        return [d.dim_value if d.dim_value > 0 else 1 for d in self.input.type.tensor_type.shape.dim]

    @property
    def layers(self) -> list[tuple[Any, ...]]:
        """Operators and shapes of weights, which corresponding parts have in common."""
        return [
            (node.op_type, *(tuple(self.tensors[key].dims) if key in self.tensors else None for key in node.input))
            for node in self.nodes
        ]


class _Builder:
    """The nodes and weights of a product in the making."""

    def __init__(self, element: str) -> None:
        self.element = element
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.outputs: list[tuple[str, str, int]] = []

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, values: Sequence[int]) -> str:
        from onnx import numpy_helper

        self.weights[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def part(
        self,
        part: _Part,
        prefix: str,
        stored: str,
        entries: tuple[str, Sequence[int]] | None,
        twins: dict[int, tuple[str, str]],
    ) -> dict[int, tuple[str, str]]:
        """Copy a part.

        Args:
            part: what to copy.
            prefix: before the names of its nodes.
            stored: before those of its weights; two copies of one network share them.
            entries: a tensor and which entries of it the part reads; None for the whole input.
            twins: for each Relu, by its number, the names of a twin's input and output that it is computed from.

        Returns:
            The same names of this part.
        """
        import onnx

        name = "x"
        if entries is not None:
            source, indices = entries
            name = self.add("Gather", [source, self.constant(f"{prefix}entries", indices)], f"{prefix}selected", axis=1)
        if part.element != self.element:
            name = self.add("Cast", [name], f"{prefix}cast", to=_ONNX_TYPES[part.element])
        name = self.add("Reshape", [name, self.constant(f"{prefix}input_shape", part.shape)], f"{prefix}input")
        names = {"": "", part.input.name: name} | {key: stored + key for key in part.tensors}
        relus: dict[int, tuple[str, str]] = {}
        for original in part.nodes:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            node.ClearField("doc_string")
            node.name = prefix + (node.name or node.output[0])
            for key in node.input:
                if key in part.tensors and names[key] not in self.weights:
                    self.weights[names[key]] = _renamed(part.tensors[key], names[key])
            read = [names.get(key, prefix + key) for key in original.input]
            written = [names.get(key, prefix + key) for key in original.output]
            if node.op_type == "Relu":
                number = len(relus)
                relus[number] = (read[0], written[0])
                if number in twins:
                    self.relu_beside(*twins[number], read[0], written[0])
                    continue
            del node.input[:], node.output[:]
            node.input.extend(read)
            node.output.extend(written)
            self.nodes.append(node)
        output = names.get(part.output, prefix + part.output)
        shape = self.constant(f"{prefix}output_shape", [1, part.network.outputs])
        self.outputs.append(
            (self.add("Reshape", [output, shape], f"{prefix}output"), part.element, part.network.outputs)
        )
        return relus

    def relu_beside(self, z: str, h: str, other: str, name: str) -> None:
        """Add ``name = relu(other)``, given ``h = relu(z)``, by the formula of this module's docstring."""

        def step(op: str, what: str, *inputs: str) -> str:
            return self.add(op, inputs, f"{name}/{what}")

        def least(what: str, a: str, b: str) -> str:
            excess = step("Relu", f"{what}_excess", step("Sub", f"{what}_gap", a, b))
            return step("Relu", what, step("Sub", f"{what}_rest", a, excess))

        e = step("Sub", "e", other, z)
        p = step("Relu", "p", e)
        n = step("Sub", "n", p, e)
        rise = least("rise", p, step("Relu", "above", step("Add", "shifted", z, p)))
        fall = least("fall", n, h)
        self.add("Add", [h, step("Sub", "difference", rise, fall)], name)

    def model(self, width: int, version: int, ir_version: int) -> bytes:
        """The model that joins the parts' outputs."""
        from onnx import helper

        result = "float64" if any(element == "float64" for _, element, _ in self.outputs) else "float32"
        joined = [
            name if element == result else self.add("Cast", [name], f"{name}_cast", to=_ONNX_TYPES[result])
            for name, element, _ in self.outputs
        ]
        self.add("Concat", joined, "y", axis=1)
        graph = helper.make_graph(
            self.nodes,
            "product",
            [helper.make_tensor_value_info("x", _ONNX_TYPES[self.element], [1, width])],
            [helper.make_tensor_value_info("y", _ONNX_TYPES[result], [1, sum(count for *_, count in self.outputs)])],
            list(self.weights.values()),
        )
        built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir_version)
        return bytes(built.SerializeToString(deterministic=True))


def _renamed(tensor: Any, name: str) -> Any:
    import onnx

    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("doc_string")
    copy.name = name
    return copy


def _common_opset(models: Sequence[Any], networks: Sequence[Network]) -> int:
    """The latest operator set among the models, if all mean the same in it.

    Raises:
        NetworkFormatError: one of them does not.
    """
    versions = [opset(model) for model in models]
    latest = max(versions)
    for model, network, version in zip(models, networks, versions, strict=True):
        if version == latest:
            continue
        for entry in model.opset_import:
            if entry.domain in {"", "ai.onnx"}:
                entry.version = latest
        try:
            same = _same_nodes(load_bytes(model.SerializeToString()), network)
        except NetworkError:
            same = False
        if not same:
            msg = (
                f"the networks use versions {' and '.join(map(str, versions))} of the ONNX operators, between which an "
                f"operator of {network.name or 'one of them'} changed: convert it to version {latest} with "
                "onnx.version_converter, and compare that"
            )
            raise NetworkFormatError(msg)
    return latest


def _same_nodes(a: Network, b: Network) -> bool:
    """Whether two networks are the same function, node by node with the same weights."""
    return len(a.nodes) == len(b.nodes) and all(_same(m, n) for m, n in zip(a.nodes, b.nodes, strict=True))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(_same, a, b))
    if is_dataclass(a):
        return type(a) is type(b) and all(_same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)
