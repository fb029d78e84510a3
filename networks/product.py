"""Product networks: questions about two networks, or about two inputs of one, as one ONNX model.

*Equivalence* of two networks is a property of the network ``x ↦ (f(x), g(x))``, *monotonicity* in entry i one of
``(x, t) ↦ (f(x), f(x with x_i := t))`` where ``t ≥ x_i``. Both are written as real ONNX models, so that replay, digests
and certificates are those of any other network.

A model depends on the given files alone, and its bytes are the same on every machine: an auditor builds it again and
compares the digest. Nodes and weights of the parts are copied with a prefix; what is added only selects, reshapes
and concatenates, so that no number is rounded on the way into a part or out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from networks.constraints import Constraint
from networks.errors import NetworkError, NetworkFormatError, NetworkShapeError, PropertyError, RegionError
from networks.exact import Number, exact
from networks.graph import Network
from networks.onnx_model import element_type, opset, parse
from networks.onnx_reader import load_bytes, needed_nodes
from networks.property import MAX_CLAUSES, Clause, Property, Query, Row
from networks.region import Region

__all__ = ["Product", "equivalence", "equivalence_model", "monotone", "monotone_model"]

_MAX_ROWS = 100_000
"""Limit on the rows that "the same decision" is stated by: about 2·n³ for n classes."""

_OLDEST_IR = 4
"""The first ONNX IR version in which weights need not be inputs of the graph as well."""


@dataclass(frozen=True, eq=False)
class Product:
    """A network that is built from others, and what is asked of it.

    Attributes:
        network: the product, loaded from the bytes of its ONNX model (``network.model``).
        prop: the property of the product's outputs.
        statement: what the user asked, in JSON, with the digests of the given files.
    """

    network: Network
    prop: Property
    statement: dict[str, Any]
    lifted: Callable[[Region], Region] = field(repr=False)

    def query(self, region: Region) -> Query:
        """The question about all inputs in ``region``, a region of the given networks' own inputs.

        Raises:
            RegionError: the region does not fit the networks, or is of a shape that the question cannot be asked for.
        """
        return Query(((self.lifted(region), self.prop),), {"region": region.statement, "property": self.statement})


def equivalence(
    first: Network, second: Network, *, tolerance: Number | None = None, same_decision: bool = False
) -> Product:
    """Do two networks agree: all outputs less than ``tolerance`` apart, or the same class scored strictly highest?

    The product's outputs are those of the first network and then those of the second.

    Raises:
        PropertyError: not exactly one of the two questions, or one that the outputs do not allow.
        NetworkError: see `equivalence_model`.
    """
    if (tolerance is None) == (not same_decision):
        msg = (
            "two networks are compared either by a tolerance of their outputs or by the same decision; give one of them"
        )
        raise PropertyError(msg)
    statement: dict[str, Any] = {"kind": "equivalence", "first": first.sha256, "second": second.sha256}
    if tolerance is not None:
        for network in (first, second):
            if network.stripped:
                msg = (
                    f"{network.name or 'the network'} ends with {network.stripped}, whose outputs are not piecewise "
                    "linear; ask for the same decision, or export the network without its last layer"
                )
                raise PropertyError(msg)
    _check_sizes(first, second)
    if tolerance is not None:
        prop = _close(first.outputs, _positive(tolerance), statement | {"tolerance": str(tolerance)})
    else:
        prop = _same_decision(first.outputs, statement | {"same_decision": True})
    built = load_bytes(equivalence_model(first.model, second.model), f"{first.name} = {second.name}")
    return Product(built, prop, prop.statement, lambda region: region)


def monotone(
    network: Network,
    input_index: int,
    output_index: int = 0,
    *,
    tolerance: Number,
    direction: str = "increasing",
) -> Product:
    """Does output ``output_index`` never fall by ``tolerance`` or more when entry ``input_index`` alone is raised?

    With ``direction="decreasing"``: does it never rise by as much? Both inputs lie in the region that is asked about.
    A tolerance is needed because equal inputs have equal outputs, and a tie is a violation.

    Raises:
        PropertyError: the input, the output, the direction or the tolerance is not one of the network's.
        NetworkError: see `monotone_model`.
    """
    if not 0 <= input_index < network.inputs:
        msg = f"input {input_index} does not exist: the network has {network.inputs} inputs, from 0"
        raise PropertyError(msg)
    if not 0 <= output_index < network.outputs:
        msg = f"output {output_index} does not exist: the network has {network.outputs} outputs, from 0"
        raise PropertyError(msg)
    if direction not in {"increasing", "decreasing"}:
        msg = f"a direction is increasing or decreasing, got {direction!r}"
        raise PropertyError(msg)
    if network.stripped:
        msg = (
            f"the network ends with {network.stripped}, whose outputs are not piecewise linear; export it without its "
            "last layer"
        )
        raise PropertyError(msg)
    sign = Fraction(1 if direction == "increasing" else -1)
    row = Row(((output_index, -sign), (network.outputs + output_index, sign)), _positive(tolerance))
    verb = "falls" if sign > 0 else "rises"
    clause = Clause((row,), 2 * network.outputs, label=f"Y_{output_index} {verb} as X_{input_index} is raised")
    statement = {
        "kind": "monotone",
        "network": network.sha256,
        "input": input_index,
        "output": output_index,
        "direction": direction,
        "tolerance": str(tolerance),
    }
    built = load_bytes(monotone_model(network.model, input_index), f"{network.name} raised at input {input_index}")
    return Product(built, Property((clause,), statement), statement, lambda region: _raised(region, input_index))


def equivalence_model(first: bytes, second: bytes) -> bytes:
    """The ONNX model ``x ↦ (f(x), g(x))``: input "x" of shape ``(1, n)``, output "y" of shape ``(1, m_1 + m_2)``.

    A final Softmax or LogSoftmax of a part is left out.

    Args:
        first, second: two ONNX models with the same number of inputs, decompressed.

    Raises:
        NetworkError: a model is not supported, they differ in the number of inputs, or they use versions of the ONNX
            operators between which an operator of one of them changed its meaning.
    """
    networks = [load_bytes(data, compare=False) for data in (first, second)]
    _check_sizes(*networks)
    width = networks[0].inputs
    return _stacked(networks, width, [list(range(width))] * 2)


def monotone_model(model: bytes, input_index: int) -> bytes:
    """The ONNX model ``(x, t) ↦ (f(x), f(x'))`` where x' is x with t as entry ``input_index``.

    Its input "x" has shape ``(1, n + 1)``, its output "y" ``(1, 2·m)``.

    Args:
        model: an ONNX model, decompressed.
        input_index: which entry t replaces, in C order.

    Raises:
        NetworkError: the model is not supported.
    """
    network = load_bytes(model, compare=False)
    same = list(range(network.inputs))
    raised = [*same[:input_index], network.inputs, *same[input_index + 1 :]]
    return _stacked([network, network], network.inputs + 1, [same, raised])


def _check_sizes(first: Network, second: Network) -> None:
    if first.inputs != second.inputs:
        msg = f"networks of the same number of inputs are compared, these have {first.inputs} and {second.inputs}"
        raise NetworkShapeError(msg)
    if first.outputs != second.outputs:
        msg = f"networks of the same number of outputs are compared, these have {first.outputs} and {second.outputs}"
        raise NetworkShapeError(msg)


def _positive(tolerance: Number) -> Fraction:
    try:
        value = exact(tolerance)
    except ValueError as error:
        msg = f"the tolerance must be a finite number above 0, got {tolerance!r}"
        raise PropertyError(msg) from error
    if value <= 0:
        msg = f"the tolerance must be above 0, got {tolerance}: equal outputs are a tie, and a tie is a violation"
        raise PropertyError(msg)
    return value


def _close(outputs: int, tolerance: Fraction, statement: dict[str, Any]) -> Property:
    """``|f_i − g_i| < tolerance`` for every output."""
    one = Fraction(1)
    clauses = [
        Clause((Row(((i, -sign), (outputs + i, sign)), tolerance),), 2 * outputs, label=f"output {i} {word}")
        for i in range(outputs)
        for sign, word in ((one, "of the first is larger"), (-one, "of the second is larger"))
    ]
    return Property(tuple(clauses), statement)


def _same_decision(outputs: int, statement: dict[str, Any]) -> Property:
    """No two different classes i, j such that the first network may decide for i and the second for j."""
    rows = 2 * outputs * (outputs - 1) ** 2
    if outputs < 2:
        msg = "the networks have one output, so they decide for no class; compare the outputs with a tolerance"
        raise PropertyError(msg)
    if rows > _MAX_ROWS or outputs * (outputs - 1) > MAX_CLAUSES:
        msg = (
            f"the same decision among {outputs} classes is stated by {rows} rows, more than the limit of {_MAX_ROWS}; "
            "compare the outputs with a tolerance"
        )
        raise PropertyError(msg)
    one = Fraction(1)
    # What "class i scores highest" says in each of the two networks.
    best = [
        [[Row(((at + i, -one), (at + k, one))) for k in range(outputs) if k != i] for i in range(outputs)]
        for at in (0, outputs)
    ]
    clauses = [
        Clause((*best[0][i], *best[1][j]), 2 * outputs, label=f"class {i} becomes {j}")
        for i in range(outputs)
        for j in range(outputs)
        if i != j
    ]
    return Property(tuple(clauses), statement)


def _raised(region: Region, index: int) -> Region:
    """The pairs (x, t) with x and its raised copy both in ``region``, and ``t ≥ x_i``."""
    if region.ball is not None:
        msg = (
            f"monotonicity is asked about boxes, not about {region.ball.norm} balls, as both inputs lie in the region; "
            "give lower and upper bounds, or an linf ball"
        )
        raise RegionError(msg)
    if not 0 <= index < region.inputs:
        msg = f"the region has {region.inputs} input entries, so there is no entry {index} to raise"
        raise RegionError(msg)
    box = Region(
        (*region.exact_lower, region.exact_lower[index]),
        (*region.exact_upper, region.exact_upper[index]),
        statement={"kind": "raised", "input": index, "region": region.statement},
    )
    constraints = [Constraint.of({index: 1, region.inputs: -1}, 0)]
    for constraint in region.constraints:
        form = dict(zip(constraint.indices, constraint.values, strict=True))
        copy = {region.inputs if i == index else i: a for i, a in form.items()}
        constraints += [constraint] if copy == form else [constraint, Constraint.of(copy, constraint.bound)]
    return box.constrained(constraints)


def _stacked(networks: Sequence[Network], width: int, sources: Sequence[Sequence[int]]) -> bytes:
    """A model of one input of shape ``(1, width)``: part k reads its entries ``sources[k]``, the outputs are joined."""
    from onnx import TensorProto, helper, numpy_helper

    models = [parse(network.model) for network in networks]
    version = _common_opset(models, networks)
    elements = [element_type(_input(model).type.tensor_type.elem_type) for model in models]
    # float32 inputs are what is replayed; they are exact in float64.
    element = "float32" if "float32" in elements else "float64"
    codes = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    nodes, weights, outputs = [], {}, []
    for number, (model, network, source, own) in enumerate(zip(models, networks, sources, elements, strict=True)):
        prefix = f"part{number}/"
        # Two copies of one network share their weights.
        stored = f"weights{networks.index(network)}/"
        name = "x"

        def added(op: str, inputs: list[str], what: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(op, inputs, [prefix + what], prefix + what, **attributes))  # noqa: B023
            return prefix + what  # noqa: B023

        def constant(what: str, values: list[int]) -> str:
            weights[prefix + what] = numpy_helper.from_array(np.array(values, np.int64), prefix + what)  # noqa: B023
            return prefix + what  # noqa: B023

        if list(source) != list(range(width)):
            name = added("Gather", [name, constant("entries", list(source))], "selected", axis=1)
        if own != element:
            name = added("Cast", [name], "cast", to=codes[own])
        name = added("Reshape", [name, constant("input_shape", _shape(model))], "input")
        copied, weights_of, name = _copied(model, network, prefix, stored, name)
        nodes += copied
        weights |= weights_of
        name = added("Reshape", [name, constant("output_shape", [1, network.outputs])], "output")
        outputs.append((name, own))
    result = "float64" if any(own == "float64" for _, own in outputs) else "float32"
    joined = []
    for name, own in outputs:
        if own != result:
            nodes.append(helper.make_node("Cast", [name], [f"{name}_cast"], f"{name}_cast", to=codes[result]))
        joined.append(name if own == result else f"{name}_cast")
    nodes.append(helper.make_node("Concat", joined, ["y"], "y", axis=1))
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", codes[element], [1, width])],
        [helper.make_tensor_value_info("y", codes[result], [1, sum(n.outputs for n in networks)])],
        list(weights.values()),
    )
    built = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", version)],
        ir_version=max(_OLDEST_IR, *(model.ir_version for model in models)),
    )
    return bytes(built.SerializeToString(deterministic=True))


def _input(model: Any) -> Any:
    initializers = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in initializers)


def _shape(model: Any) -> list[int]:
    """The input's shape with a batch of one; the loader has seen that only the first dimension may be open."""
    return [d.dim_value if d.dim_value > 0 else 1 for d in _input(model).type.tensor_type.shape.dim]


def _copied(
    model: Any, network: Network, prefix: str, stored: str, source: str
) -> tuple[list[Any], dict[str, Any], str]:
    """The nodes and weights that the output depends on, renamed, reading ``source``; and the name of the output."""
    import onnx

    graph = model.graph
    output = graph.output[0].name
    needed = needed_nodes(graph.node, output)
    if network.stripped:
        last = max(i for i in needed if output in graph.node[i].output)
        output = graph.node[last].input[0]
        needed = needed_nodes(graph.node, output)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names = {"": "", _input(model).name: source} | {name: stored + name for name in tensors}
    nodes, weights = [], {}
    for i in sorted(needed):
        node = onnx.NodeProto()
        node.CopyFrom(graph.node[i])
        node.ClearField("doc_string")
        node.name = prefix + (node.name or node.output[0])
        for key in node.input:
            if key in tensors and names[key] not in weights:
                tensor = onnx.TensorProto()
                tensor.CopyFrom(tensors[key])
                tensor.ClearField("doc_string")
                tensor.name = names[key]
                weights[tensor.name] = tensor
        renamed = [[names.get(key, prefix + key) for key in keys] for keys in (node.input, node.output)]
        del node.input[:], node.output[:]
        node.input.extend(renamed[0])
        node.output.extend(renamed[1])
        nodes.append(node)
    return nodes, weights, names.get(output, prefix + output)


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
            same = _same_nodes(load_bytes(model.SerializeToString(), compare=False), network)
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
