"""What a query may hold over HTTP, as pydantic models; `solver.question` says what it means.

Requests are strict (no text where a number belongs, no unknown members) because a misspelt option that is silently
ignored would answer another question than the one asked. Whether a query fits its network is checked in
`service.admission`, which knows the network.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.schema_base import RequestModel
from solver.verdict import Kind

__all__ = [
    "ConstraintDocument",
    "EquivalenceDocument",
    "Exact",
    "MonotoneDocument",
    "OutputRangeDocument",
    "QueryDocument",
    "RowDocument",
    "is_exact",
]

# The pattern bounds digits and exponent because exact arithmetic would write 1e999999999 out in full.
_DECIMAL = r"-?\d{1,40}(\.\d{1,60})?(/0*[1-9]\d{0,39}|[eE]-?\d{1,2})?"


def is_exact(value: object) -> bool:
    """Whether ``value`` is a finite number, or the text of one that `Exact` takes."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max  # an integer may be larger; NaN is not at most anything
    return isinstance(value, str) and re.fullmatch(_DECIMAL, value, re.ASCII) is not None


def _exact_number(value: Any) -> float | str:
    if is_exact(value):
        return value  # type: ignore[no-any-return]
    msg = "expected a finite number or a text such as '8/255' or '0.1', got {shown}"
    raise PydanticCustomError("exact_number", msg, {"shown": repr(value)[:80]})  # noqa: EM101 - the error's type


#: A finite number, read exactly: ``0.1`` is 1/10 and ``"8/255"`` is 8/255.
Exact: TypeAlias = Annotated[
    float | str,
    PlainValidator(_exact_number),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{_DECIMAL}$"}]}),
]

_NESTED_NUMBERS = {
    "description": (
        "The ball's center: a flat list in C order, or nested lists of the network's input shape, with or without a "
        "batch dimension of 1."
    ),
    "type": "array",
    "items": {"anyOf": [{"type": "number"}, {"type": "array", "items": {}}]},
    "minItems": 1,
}


_Output: TypeAlias = Annotated[int, Field(ge=0, lt=2**31)]
#: An index as JSON writes it where it is a name.
_Index: TypeAlias = Annotated[str, Field(pattern=r"^\d{1,9}$")]
_ARRAY = {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "array", "items": {}}]}}
#: One number for all entries, or nested lists of numbers, whose entries `service.admission` checks.
_Bound: TypeAlias = Annotated[
    float | str | list[Any],
    PlainValidator(lambda value: value if isinstance(value, list) else _exact_number(value)),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "array", "items": {}}]}),
]


class ConstraintDocument(RequestModel):
    """`Σ coefficients[i]·x_i ≤ bound`, for input entries i in C order."""

    coefficients: dict[_Index, Exact] = Field(min_length=1, examples=[{"0": 1, "3": -2}])
    bound: Exact


class RowDocument(RequestModel):
    """`Σ coefficients[i]·y_i + offset ≤ 0`, for outputs i: part of a violation."""

    coefficients: dict[_Index, Exact] = Field(min_length=1, examples=[{"0": 1, "3": -0.5}])
    offset: Exact = 0


class OutputRangeDocument(RequestModel):
    """One output, or a form of several, that stays strictly between `lower` and `upper`; or one `end` to be found."""

    output: _Output | None = None
    coefficients: dict[_Index, Exact] | None = Field(default=None, description="instead of `output`, by output")
    lower: Exact | None = None
    upper: Exact | None = None
    end: Literal["least", "greatest"] | None = Field(
        default=None,
        description=(
            "with kind `margin`, instead of bounds: the margin is then the least value, or minus the greatest one"
        ),
    )


class EquivalenceDocument(RequestModel):
    """Another network, with which the one that is asked about must agree."""

    network: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="sha256 of an uploaded network")
    within: Exact | None = Field(
        default=None,
        description="all outputs must differ by less than that, above 0; null: both must decide for the same class",
    )


class MonotoneDocument(RequestModel):
    """As one input entry alone is raised, an output never falls (or rises) by `within` or more."""

    input: _Output = Field(description="the entry, in C order")
    output: _Output = 0
    direction: Literal["increasing", "decreasing"] = "increasing"
    within: Exact = Field(description="above 0: equal inputs have equal outputs, and a tie is a violation")


class QueryDocument(RequestModel):
    """Is there an input of a region that breaks a property?

    The region is a ball (`input`, `epsilon`, `norm`, `radii`, `frozen`, `domain`) or a box (`lower`, `upper`), with
    `constraints` on either. The property is that a class wins (`label`, `targets`, `top_k`, `confidence`), that an
    output stays in a range (`output_range`), that two networks agree (`equivalent_to`), that an output is `monotone` in
    an input, or that no `violations` occur. Or `vnnlib` states both. These names are those of the command line and of
    `netproof.verify`, too.
    """

    input: Annotated[list[Any], Field(min_length=1), WithJsonSchema(_NESTED_NUMBERS)] | None = None
    epsilon: Exact | None = Field(
        default=None,
        description=(
            "radius of the ball, in the network's input units, at least 0; a text such as `8/255` is exact; for norm "
            "`l0` the number of entries that may change"
        ),
        examples=[0.1, "8/255"],
    )
    norm: Literal["linf", "l2", "l1", "l0"] | None = Field(default=None, description="of the ball; null: `linf`")
    radii: Annotated[list[Any], WithJsonSchema(_ARRAY)] | None = Field(
        default=None, description="how far each input entry may move by itself"
    )
    frozen: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="input entries, in C order, that keep the values of `input`", examples=[[0, 3]]
    )
    domain: tuple[Exact, Exact] | None = Field(
        default=None,
        description="lowest and highest value that an input entry may take, usually `[0, 1]` for images; null: none",
        examples=[[0, 1]],
    )
    lower: _Bound | None = Field(default=None, description="lowest input: one number for all entries, or one for each")
    upper: _Bound | None = Field(default=None, description="highest input: one number for all entries, or one for each")
    constraints: Annotated[list[ConstraintDocument], Field(min_length=1)] | None = Field(
        default=None, description="linear constraints that the input meets as well"
    )
    label: _Output | None = Field(
        default=None,
        description="index of the output that must stay strictly the largest; null: the one that is so at `input`",
    )
    targets: list[_Output] | None = Field(
        default=None, description="outputs to compare the label with; null: all others", examples=[[3, 5]]
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="the label need only be among the k best of itself and the targets"
    )
    confidence: Exact | None = Field(default=None, description="by how much more than nothing the label must win")
    output_range: OutputRangeDocument | None = None
    equivalent_to: EquivalenceDocument | None = None
    monotone: MonotoneDocument | None = None
    violations: Annotated[list[Annotated[list[RowDocument], Field(min_length=1)]], Field(min_length=1)] | None = Field(
        default=None, description="clauses, each a list of rows: an output that meets all rows of one is a violation"
    )
    vnnlib: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="text of a VNNLIB file, which states region and property; neither is given beside it"
    )
    inputs: Annotated[list[list[Any]], Field(min_length=1), WithJsonSchema(_ARRAY)] | None = Field(
        default=None, description="for kind `universal`: one list of numbers for each input"
    )
    labels: list[_Output] | None = Field(default=None, description="for kind `universal`: the class of each input")
    kind: Kind | Literal["universal"] | None = Field(
        default=None,
        description=(
            "`decide` (null): is there a violation; `margin`: how small does the margin become; `distance`: how far "
            "from `input` is the nearest violation in the region, in `norm`, where `epsilon` may be left out if there "
            "is a `domain`; `universal`: how many of `inputs` does one perturbation within `epsilon` flip"
        ),
    )
    tolerance: Exact | None = Field(
        default=None,
        description="how far the ends of a margin or distance may be apart, relative to the upper one above 1",
    )
