"""Product networks: questions about two networks, or about two inputs of one, as one ONNX model.

*Equivalence* of two networks is a property of the network ``x ↦ (f(x), g(x))``, *monotonicity* in entry i one of
``(x, t) ↦ (f(x), f(x with x_i := max(x_i, t)))``. Both are written as real ONNX models, so that replay, digests
and certificates are those of any other network.

`networks.product_model` builds the models; here are the regions and properties that go with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from networks.constraints import Constraint
from networks.errors import PropertyError, RegionError
from networks.exact import Number, exact
from networks.graph import Network
from networks.onnx_reader import load_bytes
from networks.product_model import check_sizes, equivalence_model, monotone_model
from networks.property import MAX_CLAUSES, Clause, Property, Query, Row
from networks.region import Region

__all__ = ["Product", "equivalence", "monotone"]

_MAX_ROWS = 100_000
"""Limit on the rows that "the same decision" is stated by: about 2·n³ for n classes."""


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
    first: Network,
    second: Network,
    *,
    tolerance: Number | None = None,
    same_decision: bool = False,
    paired: bool | None = None,
) -> Product:
    """Do two networks agree: all outputs less than ``tolerance`` apart, or the same class scored strictly highest?

    The product's outputs are those of the first network, then those of the second; see `equivalence_model`, also for
    ``paired``. Decisions are compared without pairs.

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
    check_sizes(first, second)
    # Decisions mostly hold because each network decides clearly, for which pairs are only in the way.
    model = equivalence_model(first.model, second.model, paired=False if same_decision else paired)
    built = load_bytes(model, f"{first.name} = {second.name}")
    if tolerance is not None:
        allowed = _positive(tolerance)
        clauses = [
            _further(built, first.outputs, i, sign, allowed, f"output {i} of the {word} is larger")
            for i in range(first.outputs)
            for sign, word in ((1, "first"), (-1, "second"))
        ]
        prop = Property(tuple(clauses), statement | {"tolerance": str(tolerance)})
    else:
        prop = _same_decision(first.outputs, statement | {"same_decision": True})
    return Product(built, prop, prop.statement, lambda region: region)


def monotone(
    network: Network,
    input_index: int,
    output_index: int = 0,
    *,
    tolerance: Number,
    direction: str = "increasing",
    paired: bool | None = None,
) -> Product:
    """Does output ``output_index`` never fall by ``tolerance`` or more when entry ``input_index`` alone is raised?

    With ``direction="decreasing"``: does it never rise by as much? Both inputs lie in the region that is asked about.
    A tolerance is needed because equal inputs have equal outputs, and a tie is a violation. See `monotone_model` for
    the product and for ``paired``.

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
    allowed = _positive(tolerance)
    statement = {
        "kind": "monotone",
        "network": network.sha256,
        "input": input_index,
        "output": output_index,
        "direction": direction,
        "tolerance": str(tolerance),
    }
    built = load_bytes(
        monotone_model(network.model, input_index, paired=paired), f"{network.name} raised at input {input_index}"
    )
    sign, verb = (1, "falls") if direction == "increasing" else (-1, "rises")
    label = f"Y_{output_index} {verb} as X_{input_index} is raised"
    clause = _further(built, network.outputs, output_index, sign, allowed, label)
    return Product(built, Property((clause,), statement), statement, lambda region: _raised(region, input_index))


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


def _further(product: Network, outputs: int, index: int, sign: int, allowed: Fraction, label: str) -> Clause:
    """Output ``index`` of the first part exceeds that of the other by ``allowed`` or more, ``sign·(y − y') ≥ allowed``.

    The rows say so for the second part and for the pairs, where the product has them.
    """
    rows = [
        Row(((index, Fraction(-sign)), (at + index, Fraction(sign))), allowed)
        for at in range(outputs, product.outputs, outputs)
    ]
    return Clause(tuple(rows), product.outputs, label=label)


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
    """The pairs (x, t) such that x and its copy with ``max(x_i, t)`` as entry i = ``index`` lie in ``region``."""
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
    if not region.constraints:
        return box
    # With t at least x_i, the copy is linear in (x, t).
    constraints = [Constraint.of({index: 1, region.inputs: -1}, 0)]
    for constraint in region.constraints:
        form = dict(zip(constraint.indices, constraint.values, strict=True))
        copy = {region.inputs if i == index else i: a for i, a in form.items()}
        constraints += [constraint] if copy == form else [constraint, Constraint.of(copy, constraint.bound)]
    return box.constrained(constraints)
